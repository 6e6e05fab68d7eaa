package keychain_test

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/registrycheck/keychain"
)

func Example() {
	secret := func(name, auths string) corev1.Secret {
		return corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "retail", Name: name},
			Type:       corev1.SecretTypeDockerConfigJson,
			Data:       map[string][]byte{corev1.DockerConfigJsonKey: []byte(auths)},
		}
	}
	keys, err := keychain.Parse(
		secret("company", `{"auths":{"*.corp.example":{"username":"reader","password":"secret"}}}`),
		secret("team", `{"auths":{"registry.corp.example/team":{"username":"team","password":"secret"}}}`),
		secret("broken", `{"auths":`),
	)
	fmt.Println("error:", err)

	ref, err := imageref.Parse("registry.corp.example/team/app:v1")
	if err != nil {
		fmt.Println(err)
	}
	for _, credential := range keys.For(ref) {
		fmt.Println(credential)
	}
	// Output:
	// error: reading pull Secret retail/broken: .dockerconfigjson: not valid JSON at byte 9
	// credential for registry.corp.example/team from Secret retail/team
	// credential for *.corp.example from Secret retail/company
}
