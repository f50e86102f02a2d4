package doctor

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
	"testing"
	"time"

	"github.com/glustervol/glustervol/gluster"
	"github.com/glustervol/glustervol/hack/testnode"
	"github.com/glustervol/glustervol/volume"
)

// authority signs certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	a := authority{key: newKey(t)}
	a.certificate = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

// sign is a certificate of the authority's until a time, in PEM.
func (a authority) sign(t *testing.T, template *x509.Certificate, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// install writes what Gluster takes into a directory.
func (a authority) install(t *testing.T, dir string, until time.Duration) {
	t.Helper()
	key := newKey(t)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "node"}, NotBefore: time.Now().Add(-100 * time.Hour), NotAfter: time.Now().Add(until)}
	private, err := x509.MarshalECPrivateKey(key)
	must(t, err)
	for name, text := range map[string][]byte{
		"glusterfs.pem": a.sign(t, leaf, key),
		"glusterfs.key": pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}),
		"glusterfs.ca":  a.sign(t, a.certificate, a.key),
	} {
		must(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
}

// encrypted is a store whose Gluster volume has client.ssl.
var encrypted = volume.StoreReport{Graph: gluster.Graph{{Type: gluster.ClientType, Options: map[string]string{"transport.socket.ssl-enabled": "on"}}}}

func TestTLS(t *testing.T) {
	const long = 1000 * time.Hour
	a := newAuthority(t)
	for _, tt := range []struct {
		doc    string
		change func(t *testing.T, dir string)
		level  Level
		words  []string
	}{
		{"well", func(*testing.T, string) {}, OK, nil},
		{"no certificate", func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "glusterfs.pem"))) }, Failure, []string{"glusterfs.pem", "no such file"}},
		{"no key", func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "glusterfs.key"))) }, Failure, []string{"glusterfs.key", "no such file"}},
		{"no authorities", func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "glusterfs.ca"))) }, Failure, []string{"glusterfs.ca", "copy it"}},
		{"empty authorities", func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, "glusterfs.ca"), []byte("nothing"), 0o600))
		}, Failure, []string{"glusterfs.ca has no certificate"}},
		{"another key", func(t *testing.T, dir string) {
			other := t.TempDir()
			a.install(t, other, long)
			must(t, os.Rename(filepath.Join(other, "glusterfs.key"), filepath.Join(dir, "glusterfs.key")))
		}, Failure, []string{"private key does not match"}},
		{"expired", func(t *testing.T, dir string) { a.install(t, dir, -time.Hour) }, Failure, []string{"has expired"}},
		{"about to expire", func(t *testing.T, dir string) { a.install(t, dir, 24*time.Hour) }, Warning, []string{"expires at"}},
		{"another authority", func(t *testing.T, dir string) {
			other := newAuthority(t)
			must(t, os.WriteFile(filepath.Join(dir, "glusterfs.ca"), other.sign(t, other.certificate, other.key), 0o600))
		}, Warning, []string{"no authority", "may refuse it"}},
	} {
		t.Run(tt.doc, func(t *testing.T) {
			dir := t.TempDir()
			a.install(t, dir, long)
			tt.change(t, dir)
			n := alone(t)
			n.secureAccess, n.tlsDirs = write(t, "secure-access", ""), []string{dir}
			expect(t, n.checkTLS(encrypted), tt.level, tt.words...)
		})
	}
}

// TestTLSHalf: TLS for one half, or for none.
func TestTLSHalf(t *testing.T) {
	dir, plain := t.TempDir(), volume.StoreReport{Graph: gluster.Graph{{Type: gluster.ClientType}}}
	newAuthority(t).install(t, dir, 1000*time.Hour)
	n := alone(t)
	n.secureAccess, n.tlsDirs = "/nonexistent/secure-access", []string{"/nonexistent", dir}
	expect(t, n.checkTLS(plain), OK, "not used")
	expect(t, n.checkTLS(volume.StoreReport{}), Skipped, "not known")
	expect(t, n.checkTLS(encrypted), Warning, "for the bricks only", n.secureAccess)
	n.secureAccess = write(t, "secure-access", "")
	expect(t, n.checkTLS(plain), Warning, "for volume files only", "client.ssl on")

	elsewhere := volume.StoreReport{Graph: gluster.Graph{{Type: gluster.ClientType, Options: map[string]string{
		"transport.socket.ssl-enabled": "on", "transport.socket.ssl-own-cert": "/nonexistent/own.pem",
	}}}}
	expect(t, n.checkTLS(elsewhere), Failure, "/nonexistent/own.pem")
}

// TestTLSForReal: Gluster's own files are found where it looks for them, and the volume
// file tells that the bricks take TLS. The test's certificate is good for an hour.
func TestTLSForReal(t *testing.T) {
	certificate := testnode.TLS(t)
	gv := testnode.NewGlusterVolume(t, 1, "")
	testnode.SecureVolume(t, gv)
	n := alone(t)
	expect(t, n.checkTLS(look(t, gv.Address())), Warning, certificate, "expires at")
	n.secureAccess = "/nonexistent"
	expect(t, n.checkTLS(look(t, gv.Address())), Warning, certificate, "expires at")
	must(t, os.Rename(certificate, certificate+".away"))
	defer func() { must(t, os.Rename(certificate+".away", certificate)) }()
	broken := look(t, gv.Address())
	expectAmong(t, checkStore(broken), Failure, "TLS")
	n.secureAccess = New().secureAccess
	expect(t, n.checkTLS(broken), Failure, certificate, "no such file")
}
