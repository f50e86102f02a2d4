package packagetest

import (
	"debug/elf"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// wanted are the files of a package, but for the man pages of subcommands.
var wanted = []string{
	"/etc/default/glustervol",
	"/etc/logrotate.d/glustervol",
	"/usr/lib/systemd/system/glustervol.service",
	"/usr/lib/systemd/system/glustervol.socket",
	"/usr/lib/systemd/system/run-glustervol-clients-.mount.d/glustervol.conf",
	"/usr/sbin/glustervol",
	"/usr/share/bash-completion/completions/glustervol",
	"/usr/share/doc/glustervol/CHANGELOG.md",
	"/usr/share/doc/glustervol/README.md",
	"/usr/share/doc/glustervol/copyright",
	"/usr/share/fish/vendor_completions.d/glustervol.fish",
	"/usr/share/man/man8/glustervol.8.gz",
}

// configuration are the files that an upgrade leaves as somebody has changed them.
var configuration = []string{"/etc/default/glustervol", "/etc/logrotate.d/glustervol"}

const manPages = "/usr/share/man/man8/glustervol-"

// checkFiles compares the files of a package with those wanted.
func checkFiles(t *testing.T, files []string, zsh string) {
	t.Helper()
	for _, command := range []string{"serve", "create", "trash-restore", "node-forget"} {
		if page := manPages + command + ".8.gz"; !slices.Contains(files, page) {
			t.Errorf("there is no %s", page)
		}
	}
	files = slices.DeleteFunc(files, func(file string) bool { return strings.HasPrefix(file, manPages) })
	slices.Sort(files)
	want := append(slices.Clone(wanted), zsh+"/_glustervol")
	slices.Sort(want)
	if !slices.Equal(files, want) {
		t.Errorf("the package has %q, wanted %q", files, want)
	}
}

func TestDebContents(t *testing.T) {
	machine := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	for arch, format := range debs {
		t.Run(arch, func(t *testing.T) {
			file, dir := packageFile(t, format, version), t.TempDir()
			run(t, "dpkg-deb", "--extract", file, dir)
			checkFiles(t, filesBelow(t, dir), "/usr/share/zsh/vendor-completions")
			equal(t, "configuration", run(t, "dpkg-deb", "--info", file, "conffiles"), strings.Join(configuration, "\n"))
			expect(t, run(t, "dpkg-deb", "--field", file), "Version: "+version, "Architecture: "+arch,
				"Depends: libc6, glusterfs-client", "Recommends: libgfapi0", "Suggests: docker.io | docker-ce | moby-engine")

			program, err := elf.Open(filepath.Join(dir, "usr/sbin/glustervol"))
			must(t, err)
			defer program.Close()
			equal(t, "the program's machine", program.Machine, machine[arch])
			checkTexts(t, dir)
		})
	}
}

// checkTexts looks into the files of a package for what depends on where it is installed,
// and on the program.
func checkTexts(t *testing.T, dir string) {
	t.Helper()
	expect(t, read(t, dir, "usr/lib/systemd/system/glustervol.service"), "\nExecStart=/usr/sbin/glustervol serve")
	expect(t, read(t, dir, "usr/share/doc/glustervol/copyright"), "Apache License", "parts of go1.", "parts of github.com/spf13/cobra@", "parts of github.com/ebitengine/purego@")
	run(t, "bash", "-n", filepath.Join(dir, "usr/share/bash-completion/completions/glustervol"))
	page := run(t, "gunzip", "--stdout", filepath.Join(dir, manPages+"trash-restore.8.gz"))
	expect(t, page, `.TH "GLUSTERVOL-TRASH-RESTORE" "8"`, "v"+version, "--as", "glustervol-trash(8)")
	// The manual's formatter is not the users' business.
	if modules := run(t, "go", "version", "-m", filepath.Join(dir, "usr/sbin/glustervol")); strings.Contains(modules, "md2man") {
		t.Errorf("the program has a formatter in it: %s", modules)
	}
}

func TestRPMContents(t *testing.T) {
	machine := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}
	for arch, format := range rpms {
		t.Run(arch, func(t *testing.T) {
			file := packageFile(t, format, version)
			query := func(args ...string) string {
				t.Helper()
				return run(t, "rpm", append([]string{"--query", "--package", file}, args...)...)
			}
			// Each line has the type of a file in its mode, and its path.
			var files []string
			for line := range strings.Lines(query("--queryformat", "[%{FILEMODES:octal} %{FILENAMES}\n]")) {
				if mode, path, _ := strings.Cut(strings.TrimSpace(line), " "); strings.HasPrefix(mode, "100") {
					files = append(files, path)
				}
			}
			checkFiles(t, files, "/usr/share/zsh/site-functions")
			equal(t, "configuration", query("--configfiles"), strings.Join(configuration, "\n"))
			expect(t, query("--queryformat", "[%{FILEFLAGS:fflags} %{FILENAMES}\n]"), "cn /etc/default/glustervol\n") // not replaced
			equal(t, "version and machine", query("--queryformat", "%{VERSION} %{ARCH}"), version+" "+machine[arch])
			expect(t, query("--requires"), "glusterfs-fuse")
			expect(t, query("--recommends"), "libgfapi.so.0()(64bit)")
			expect(t, query("--suggests"), "docker-ce", "moby-engine")
			expect(t, query("--scripts"), "postinstall", "preuninstall", "postuninstall")
		})
	}
}

// filesBelow are the files of a directory, by their paths in it.
func filesBelow(t *testing.T, dir string) (files []string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files = append(files, strings.TrimPrefix(path, dir))
		}
		return err
	}))
	return files
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	must(t, err)
	return string(text)
}
