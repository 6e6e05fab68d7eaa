package controlplane

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"testing"
)

func issued(t *testing.T, p Pair) *x509.Certificate {
	t.Helper()
	if _, err := tls.X509KeyPair(p.Certificate, p.Key); err != nil {
		t.Fatalf("certificate and key do not belong together: %v", err)
	}
	block, _ := pem.Decode(p.Certificate)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	a, err := newAuthority()
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.pem)

	serving, err := a.server("kube-apiserver", "10.0.0.1", "kubernetes.default")
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"10.0.0.1", "kubernetes.default"} {
		_, err := issued(t, serving).Verify(x509.VerifyOptions{Roots: roots, DNSName: host})
		if err != nil {
			t.Errorf("serving %s: %v", host, err)
		}
	}

	client, err := a.client("system:node:a", "system:nodes", "more")
	if err != nil {
		t.Fatal(err)
	}
	certificate := issued(t, client)
	_, err = certificate.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		t.Error(err)
	}
	// The order of groups is that of DER sets.
	groups := slices.Sorted(slices.Values(certificate.Subject.Organization))
	if certificate.Subject.CommonName != "system:node:a" || !slices.Equal(groups, []string{"more", "system:nodes"}) {
		t.Errorf("subject is %s", certificate.Subject)
	}
}

func TestUserNamesAsFileNames(t *testing.T) {
	t.Parallel()
	for user, want := range map[string]string{"admin": "admin", "system:node:a.b": "system-node-a.b", "../../etc/x": "..-..-etc-x"} {
		if got := fileName(user); got != want {
			t.Errorf("fileName(%q) = %q, want %q", user, got, want)
		}
	}
}
