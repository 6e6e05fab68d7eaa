module example.test/tree

go 1.26

require k8s.io/component-base v0.37.2

replace k8s.io/component-base => ./component-base
