package controlplane

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// validity is how long certificates hold. A lab lives for minutes, a demo left open perhaps for days.
const validity = 30 * 24 * time.Hour

// authority is the cluster's one certificate authority: servers, clients and kubelets trust it.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte
}

// A Pair is a certificate with its key, both PEM.
type Pair struct{ Certificate, Key []byte }

func newAuthority() (*authority, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	template := template("edgecache-lab-ca")
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("creating the certificate authority: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("creating the certificate authority: %w", err)
	}
	return &authority{certificate: certificate, key: key, pem: encode("CERTIFICATE", der)}, nil
}

func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generating a key: %w", err)
	}
	return key, nil
}

func template(commonName string, organizations ...string) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: commonName, Organization: organizations},
		// An hour back: the clock of a capsule's guest may be a little behind.
		NotBefore: time.Now().Add(-time.Hour),
		NotAfter:  time.Now().Add(validity),
		KeyUsage:  x509.KeyUsageDigitalSignature,
	}
}

// server issues a serving certificate for hosts, which are names or addresses.
func (a *authority) server(commonName string, hosts ...string) (Pair, error) {
	t := template(commonName)
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, h := range hosts {
		if ip, err := netip.ParseAddr(h); err == nil {
			t.IPAddresses = append(t.IPAddresses, net.IP(ip.AsSlice()))
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	return a.issue(t)
}

// client issues a certificate that authenticates user as a member of groups.
func (a *authority) client(user string, groups ...string) (Pair, error) {
	t := template(user, groups...)
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return a.issue(t)
}

func (a *authority) issue(t *x509.Certificate) (Pair, error) {
	key, err := newKey()
	if err != nil {
		return Pair{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.certificate, key.Public(), a.key)
	if err != nil {
		return Pair{}, fmt.Errorf("issuing a certificate for %s: %w", t.Subject.CommonName, err)
	}
	keyPEM, err := encodeKey(key)
	return Pair{Certificate: encode("CERTIFICATE", der), Key: keyPEM}, err
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// encodeKey encodes key in the one form that the API server reads as a service account key too.
func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a key: %w", err)
	}
	return encode("EC PRIVATE KEY", der), nil
}

// pkiFiles are the credentials that the servers read from disk.
type pkiFiles struct {
	ca, serverCert, serverKey, kubeletCert, kubeletKey, serviceAccountKey string
}

// writePKI issues what the servers need and writes it below dir. hosts are the API server's names and addresses.
func (a *authority) writePKI(dir string, hosts []string) (pkiFiles, error) {
	at := func(name string) string { return filepath.Join(dir, name) }
	files := pkiFiles{
		ca: at("ca.crt"), serverCert: at("apiserver.crt"), serverKey: at("apiserver.key"),
		kubeletCert: at("kubelet-client.crt"), kubeletKey: at("kubelet-client.key"),
		serviceAccountKey: at("service-account.key"),
	}
	serving, err := a.server("kube-apiserver", hosts...)
	if err != nil {
		return files, err
	}
	// The API server reaches kubelets (kubectl logs, exec) as a cluster administrator.
	kubelet, err := a.client("kube-apiserver-kubelet-client", Administrators)
	if err != nil {
		return files, err
	}
	signer, err := newKey()
	if err != nil {
		return files, err
	}
	signing, err := encodeKey(signer)
	if err != nil {
		return files, err
	}
	return files, writeFiles(map[string][]byte{
		files.ca: a.pem, files.serverCert: serving.Certificate, files.serverKey: serving.Key,
		files.kubeletCert: kubelet.Certificate, files.kubeletKey: kubelet.Key, files.serviceAccountKey: signing,
	})
}

func writeFiles(files map[string][]byte) error {
	for path, content := range files {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("writing credentials: %w", err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return fmt.Errorf("writing credentials: %w", err)
		}
	}
	return nil
}
