package doctor

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/glustervol/glustervol/gluster"
	"github.com/glustervol/glustervol/volume"
)

// certificateFiles are Gluster's certificate, its key, and the authorities that it trusts.
type certificateFiles struct{ certificate, key, authorities string }

// checkTLS is about the files that Gluster's TLS takes, if it is to be used.
func (n *Node) checkTLS(r volume.StoreReport) []Finding {
	_, err := os.Stat(n.secureAccess)
	management := err == nil
	var bricks *gluster.Translator
	for _, t := range r.Graph.OfType(gluster.ClientType) {
		if truth(t.Options["transport.socket.ssl-enabled"]) == "on" {
			bricks = &t
		}
	}
	if !management && bricks == nil {
		if len(r.Graph) == 0 {
			return one(skipped("not used for volume files (no %s); for the bricks, it is not known", n.secureAccess))
		}
		return one(ok("not used: neither is there %s, nor has the Gluster volume client.ssl", n.secureAccess))
	}
	if found := n.findCertificates(bricks).check(time.Now()); len(found) > 0 {
		return found
	}
	switch {
	case bricks == nil && len(r.Graph) > 0:
		return one(warning("'gluster volume set VOLUME client.ssl on' and server.ssl on", "for volume files only: the data goes unencrypted"))
	case !management:
		return one(warning("create "+n.secureAccess+" on all nodes and servers", "for the bricks only: volume files, with what lets a client in, go unencrypted"))
	}
	return one(ok("certificate, key and authorities are there and fit"))
}

// findCertificates is where the files are: where the volume's options say, or in the
// first of Gluster's directories that has a certificate.
func (n *Node) findCertificates(bricks *gluster.Translator) certificateFiles {
	dir := n.tlsDirs[0]
	for _, d := range n.tlsDirs {
		if _, err := os.Stat(filepath.Join(d, "glusterfs.pem")); err == nil {
			dir = d
			break
		}
	}
	files := certificateFiles{filepath.Join(dir, "glusterfs.pem"), filepath.Join(dir, "glusterfs.key"), filepath.Join(dir, "glusterfs.ca")}
	if bricks != nil {
		for option, file := range map[string]*string{
			"transport.socket.ssl-own-cert": &files.certificate, "transport.socket.ssl-private-key": &files.key, "transport.socket.ssl-ca-list": &files.authorities,
		} {
			if value := bricks.Options[option]; value != "" {
				*file = value
			}
		}
	}
	return files
}

const (
	// renewal is how long before its end a certificate is told of.
	renewal = 14 * 24 * time.Hour
	// newCertificate is what to do about one that is no good.
	newCertificate = "make a new certificate and key, signed by an authority in glusterfs.ca of all nodes and servers"
)

// check finds what is wrong with the files at a time.
func (f certificateFiles) check(now time.Time) []Finding {
	pair, err := tls.LoadX509KeyPair(f.certificate, f.key)
	if err != nil {
		return one(failure(newCertificate, "%s and %s: %v", f.certificate, f.key, err))
	}
	text, err := os.ReadFile(f.authorities)
	if err != nil {
		return one(failure("copy it from a server", "%v", err))
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(text) {
		return one(failure("copy it from a server", "%s has no certificate of an authority", f.authorities))
	}
	leaf := pair.Leaf
	options := x509.VerifyOptions{Roots: authorities, Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	for _, der := range pair.Certificate[1:] {
		options.Intermediates.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	switch _, err = leaf.Verify(options); {
	case errors.As(err, &x509.UnknownAuthorityError{}):
		return one(warning(newCertificate, "no authority in %s has signed %s: other nodes may refuse it", f.authorities, f.certificate))
	case err != nil:
		return one(failure(newCertificate, "%s: %v", f.certificate, err))
	case now.Add(renewal).After(leaf.NotAfter):
		return one(warning(newCertificate, "%s expires at %s", f.certificate, leaf.NotAfter.Format(time.RFC3339)))
	}
	return nil
}
