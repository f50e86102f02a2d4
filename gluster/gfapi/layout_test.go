package gfapi

import (
	"fmt"
	"go/build"
	"go/importer"
	"go/token"
	"go/types"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/glustervol/glustervol/hack/testnode"
)

func TestMain(m *testing.M) { testnode.Main(m) }

// fields are those of C's structs that the binding reads or writes, and how Go
// calls them.
var fields = []struct{ cStruct, cField, goStruct, goField string }{
	{"struct stat", "st_ino", "Stat", "Ino"},
	{"struct stat", "st_mode", "Stat", "Mode"},
	{"struct stat", "st_uid", "Stat", "Uid"},
	{"struct stat", "st_gid", "Stat", "Gid"},
	{"struct stat", "st_size", "Stat", "Size"},
	{"struct statvfs", "f_frsize", "statvfs", "Frsize"},
	{"struct statvfs", "f_blocks", "statvfs", "Blocks"},
	{"struct statvfs", "f_bavail", "statvfs", "Bavail"},
	{"struct statvfs", "f_files", "statvfs", "Files"},
	{"struct statvfs", "f_favail", "statvfs", "Favail"},
	{"struct dirent", "d_type", "dirent", "Type"},
	{"struct dirent", "d_name", "dirent", "Name"},
}

// constants are those of C's headers that the binding has copied.
var constants = map[string]int{
	"GFAPI_SET_ATTR_MODE": SetMode,
	"GFAPI_SET_ATTR_UID":  SetUID,
	"GFAPI_SET_ATTR_GID":  SetGID,
	"GF_LOG_ERROR":        LogError,
	"GF_LOG_WARNING":      LogWarning,
	"GF_LOG_INFO":         LogInfo,
	"GF_LOG_DEBUG":        LogDebug,
	"M_ARENA_MAX":         arenaMax,
}

// TestLayout has a C compiler compare the layout of Go's structs with that of
// the headers, for each architecture that is built for.
func TestLayout(t *testing.T) {
	testnode.Require(t)
	for arch, compiler := range map[string]string{"amd64": "x86_64-linux-gnu-gcc", "arm64": "aarch64-linux-gnu-gcc"} {
		t.Run(arch, func(t *testing.T) {
			var source strings.Builder
			source.WriteString("#include <stddef.h>\n#include <sys/stat.h>\n#include <sys/statvfs.h>\n#include <dirent.h>\n" +
				"#include <glusterfs/api/glfs.h>\n#include <glusterfs/api/glfs-handles.h>\n#include <glusterfs/logging.h>\n#include <malloc.h>\n")
			pkg := typeCheck(t, arch)
			for _, f := range fields {
				offset, size, whole := goLayout(t, arch, pkg, f.goStruct, f.goField)
				assert(&source, "offsetof(%s, %s) == %d", f.cStruct, f.cField, offset)
				assert(&source, "sizeof(((%s *)0)->%s) == %d", f.cStruct, f.cField, size)
				// The library writes all of the struct.
				assert(&source, "sizeof(%s) <= %d", f.cStruct, whole)
			}
			for name, value := range constants {
				assert(&source, "%s == %d", name, value)
			}
			file := filepath.Join(t.TempDir(), "layout.c")
			if err := os.WriteFile(file, []byte(source.String()), 0o600); err != nil {
				t.Fatal(err)
			}
			// Gluster's headers are the same for all architectures; the other
			// compiler finds them where this machine has them.
			cmd := exec.CommandContext(t.Context(), compiler, "-std=gnu11", "-fsyntax-only", "-D_FILE_OFFSET_BITS=64", "-idirafter", "/usr/include", file)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

func assert(source *strings.Builder, format string, args ...any) {
	condition := fmt.Sprintf(format, args...)
	fmt.Fprintf(source, "_Static_assert(%s, %q);\n", condition, condition)
}

// typeCheck reads the package as an architecture's compiler does.
func typeCheck(t *testing.T, arch string) *types.Package {
	t.Helper()
	former := build.Default
	defer func() { build.Default = former }()
	build.Default.GOARCH, build.Default.CgoEnabled = arch, false
	imports := importer.ForCompiler(token.NewFileSet(), "source", nil)
	pkg, err := imports.Import("github.com/glustervol/glustervol/gluster/gfapi")
	if err != nil {
		t.Fatal(err)
	}
	return pkg
}

// goLayout tells where an architecture's Go has a field of one of the structs,
// and how large field and struct are.
func goLayout(t *testing.T, arch string, pkg *types.Package, structName, fieldName string) (offset, size, whole int64) {
	t.Helper()
	layout, ok := pkg.Scope().Lookup(structName).Type().Underlying().(*types.Struct)
	if !ok {
		t.Fatalf("%s is not a struct", structName)
	}
	sizes := types.SizesFor("gc", arch)
	var all []*types.Var
	for field := range layout.Fields() {
		all = append(all, field)
	}
	for i, field := range all {
		if field.Name() == fieldName {
			return sizes.Offsetsof(all)[i], sizes.Sizeof(field.Type()), sizes.Sizeof(layout)
		}
	}
	t.Fatalf("%s has no field %s", structName, fieldName)
	return 0, 0, 0
}
