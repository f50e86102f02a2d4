package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"unicode"

	"github.com/hashicorp/go-envparse"
	"github.com/spf13/pflag"

	"github.com/glustervol/glustervol/gluster"
	"github.com/glustervol/glustervol/hack/systemd"
)

// settingsFile is what the driver's systemd unit takes variables from, and
// optionsVariable has further arguments for serve there.
const (
	settingsFile    = "/etc/default/glustervol"
	optionsVariable = "GLUSTERVOL_OPTS"
)

// configuration is a file of that kind.
type configuration struct {
	file string
	// text is what it is to have, before what it has, "" if it is not there.
	text, before string
	values       map[string]string
	// changed are the variables that were set.
	changed map[string]string
}

// openConfiguration reads the file, or takes the template if there is none.
func openConfiguration(file string) (*configuration, error) {
	data, err := os.ReadFile(file)
	c := &configuration{file: file, text: string(data), before: string(data), changed: map[string]string{}}
	if errors.Is(err, fs.ErrNotExist) {
		c.text, err = systemd.Default, nil
	}
	if err != nil {
		return nil, err
	}
	return c, c.parse()
}

func (c *configuration) parse() (err error) {
	if c.values, err = envparse.Parse(strings.NewReader(c.text)); err != nil {
		return fmt.Errorf("%s: %w", c.file, err)
	}
	return nil
}

// set has a variable have a value. It replaces the line that has it; comments and all
// else stay. A new line goes to the end.
func (c *configuration) set(name, value string) error {
	if strings.ContainsFunc(value, unicode.IsControl) {
		return fmt.Errorf("%q has a control character in it", value)
	}
	c.changed[name] = value
	if got, there := c.values[name]; there && got == value {
		return nil
	}
	// systemd and shells agree on these escapes in double quotes.
	line := name + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value) + `"`
	assignment := regexp.MustCompile(`(?m)^[ \t]*` + name + `[ \t]*=.*$`)
	if all := assignment.FindAllStringIndex(c.text, -1); len(all) > 0 {
		last := all[len(all)-1] // which is the one that counts
		c.text = c.text[:last[0]] + line + c.text[last[1]:]
	} else {
		if c.text != "" && !strings.HasSuffix(c.text, "\n") {
			c.text += "\n"
		}
		c.text += line + "\n"
	}
	return c.parse()
}

// check tells how the driver would start with these settings, and whether it takes them.
func (c *configuration) check() (serveOptions, error) {
	options, flags, err := parseSettings(func(name string) string { return c.values[name] })
	if err != nil {
		return options, fmt.Errorf("%s: nothing was written: %w", c.file, err)
	}
	flags.VisitAll(func(f *pflag.Flag) {
		if want, given := c.changed[variableOf(f)]; given && want != "" && want != f.Value.String() {
			err = fmt.Errorf("%s: nothing was written: %s has --%s=%s, which has the last word; take it out there", c.file, optionsVariable, f.Name, f.Value)
		}
	})
	if err == nil && storeNames(options.stores) != c.changed[storeVariable] {
		err = fmt.Errorf("%s: nothing was written: %s names stores of its own, which have the last word; take them out there", c.file, optionsVariable)
	}
	return options, err
}

// write replaces the file, if it is another. Its owner and mode stay.
func (c *configuration) write() (changed bool, err error) {
	if c.text == c.before {
		return false, nil
	}
	file, err := filepath.EvalSymlinks(c.file)
	if errors.Is(err, fs.ErrNotExist) {
		file, err = c.file, os.MkdirAll(filepath.Dir(c.file), 0o755)
	}
	if err != nil {
		return false, err
	}
	draft, err := os.CreateTemp(filepath.Dir(file), ".glustervol-*")
	if err != nil {
		return false, err
	}
	_, err = draft.WriteString(c.text)
	err = errors.Join(err, likeBefore(draft, file), draft.Sync(), draft.Close())
	if err == nil {
		err = os.Rename(draft.Name(), file)
	}
	if err != nil {
		return false, errors.Join(err, os.Remove(draft.Name()))
	}
	return true, nil
}

// readSettings tells how systemd would start the driver: what the file says, else this
// process's environment. A file that is not there says nothing.
func readSettings(file string) (s serveOptions, err error) {
	values := map[string]string{}
	f, err := os.Open(file)
	if err == nil {
		values, err = envparse.Parse(f)
		_ = f.Close() // it was only read
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s, fmt.Errorf("%s: %w", file, err)
	}
	s, _, err = parseSettings(func(name string) string { return cmp.Or(values[name], os.Getenv(name)) })
	if err != nil {
		return s, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}

func parseSettings(getenv func(string) string) (s serveOptions, flags *pflag.FlagSet, err error) {
	flags = pflag.NewFlagSet("serve", pflag.ContinueOnError)
	s.addFlags(flags)
	flags.StringVar(&s.adminSocket, "socket", defaultAdminSocket, "")
	if err := flags.Parse(strings.Fields(getenv(optionsVariable))); err != nil {
		return s, flags, err
	}
	if err := errors.Join(fromEnvironment(flags, getenv), s.applyName(flags)); err != nil {
		return s, flags, err
	}
	stores := flags.Args()
	if len(stores) == 0 {
		stores = strings.Fields(getenv(storeVariable))
	}
	if len(stores) == 0 {
		return s, flags, nil
	}
	return s, flags, s.parse(stores)
}

// useSocketOf has the commands find a driver with settings, unless they were told where.
func (o *options) useSocketOf(s serveOptions) {
	if o.socket == defaultAdminSocket {
		o.socket = s.adminSocket
	}
}

// parseStores reads addresses of stores.
func parseStores(texts []string) (stores []gluster.Address, err error) {
	for _, text := range texts {
		address, err := gluster.ParseAddress(text)
		if err != nil {
			return nil, err
		}
		stores = append(stores, address)
	}
	return stores, nil
}

// likeBefore gives a draft the owner and mode of the file that it replaces.
func likeBefore(draft *os.File, file string) error {
	info, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return draft.Chmod(0o644)
	}
	if err != nil {
		return err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		err = draft.Chown(int(owner.Uid), int(owner.Gid))
	}
	return errors.Join(err, draft.Chmod(info.Mode().Perm()))
}
