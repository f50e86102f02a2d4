package testnode

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// tlsDir is where Debian's Gluster looks for its certificate: OpenSSL's directory.
const tlsDir = "/usr/lib/ssl"

// secureAccess has glusterd and clients use TLS for volume files too.
const secureAccess = "/var/lib/glusterd/secure-access"

// TLS has all of the machine's Gluster speak TLS until the end of the test, and
// returns the certificate's file. Gluster volumes that are made behind it use TLS
// once SecureVolume says so.
func TLS(t testing.TB) (certificate string) {
	t.Helper()
	Gluster(t)
	must(t, syscall.Mount("testnode", tlsDir, "tmpfs", 0, "mode=0755"))
	t.Cleanup(func() {
		stopGlusterd(t)
		must(t, os.Remove(secureAccess))
		// Lazily: what still tries to connect opens the certificate now and then.
		must(t, syscall.Unmount(tlsDir, syscall.MNT_DETACH))
	})
	writeCertificate(t)
	stopGlusterd(t)
	must(t, os.WriteFile(secureAccess, nil, 0o600))
	Gluster(t)
	return filepath.Join(tlsDir, "glusterfs.pem")
}

// SecureVolume has a volume's bricks take TLS connections only.
func SecureVolume(t testing.TB, v *GlusterVolume) {
	t.Helper()
	v.Stop()
	for option, value := range map[string]string{"client.ssl": "on", "server.ssl": "on", "auth.ssl-allow": "*"} {
		RunGluster(t, "volume", "set", v.Name, option, value)
	}
	v.Start()
}

func stopGlusterd(t testing.TB) {
	t.Helper()
	daemons.Lock()
	defer daemons.Unlock()
	if !daemons.running["glusterd"].Stop() {
		t.Error("glusterd did not end when told to")
	}
	delete(daemons.running, "glusterd")
}

// writeCertificate makes a certificate that all trust, and its key.
func writeCertificate(t testing.TB) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "testnode"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	private, err := x509.MarshalECPrivateKey(key)
	must(t, err)
	for file, block := range map[string]*pem.Block{
		"glusterfs.pem": {Type: "CERTIFICATE", Bytes: certificate},
		"glusterfs.ca":  {Type: "CERTIFICATE", Bytes: certificate},
		"glusterfs.key": {Type: "EC PRIVATE KEY", Bytes: private},
	} {
		must(t, os.WriteFile(filepath.Join(tlsDir, file), pem.EncodeToMemory(block), 0o600))
	}
}
