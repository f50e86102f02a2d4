package mount

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Options are options of a client in canonical form: "key" or "key=value" by
// key, sorted, none twice, so that equal options are equal strings.
type Options string

// optionKind tells how an option of mount.glusterfs(8) is written, and what it
// becomes on the command line of glusterfs(8).
type optionKind int

const (
	flagOption   optionKind = iota // ro: a flag of the client of its own
	fuseOption                     // noatime: a flag that goes into --fuse-mountopts
	numberOption                   // attribute-timeout=SECONDS, decimal
	boolOption                     // kernel-writeback-cache=on
	autoOption                     // direct-io-mode=on|off|auto
	levelOption                    // log-level=INFO
)

// allowed are the options that a user of a volume may choose. What names a
// file of this machine (log-file, dump-fuse), another server (backup-volfile-
// servers) or the graph (xlator-option, volume-name) is not among them, nor is
// enable-ino32, since a directory is told from a former one of its path by its
// inode number, nor auto_unmount: between a client's death and its unmount, containers would
// write to the local disk.
var allowed = map[string]struct {
	kind optionKind
	flag string // of glusterfs(8), where it is not "--" and the option's name
}{
	"acl":                         {kind: flagOption},
	"resolve-gids":                {kind: flagOption},
	"ro":                          {kind: flagOption, flag: "--read-only"},
	"selinux":                     {kind: flagOption},
	"worm":                        {kind: flagOption},
	"noatime":                     {kind: fuseOption},
	"nodev":                       {kind: fuseOption},
	"noexec":                      {kind: fuseOption},
	"nosuid":                      {kind: fuseOption},
	"attr-times-granularity":      {kind: numberOption},
	"attribute-timeout":           {kind: numberOption},
	"background-qlen":             {kind: numberOption},
	"congestion-threshold":        {kind: numberOption},
	"entry-timeout":               {kind: numberOption},
	"gid-timeout":                 {kind: numberOption},
	"invalidate-limit":            {kind: numberOption},
	"lru-limit":                   {kind: numberOption},
	"negative-timeout":            {kind: numberOption},
	"reader-thread-count":         {kind: numberOption},
	"auto-invalidation":           {kind: boolOption},
	"fopen-keep-cache":            {kind: boolOption},
	"kernel-writeback-cache":      {kind: boolOption},
	"use-readdirp":                {kind: boolOption},
	"direct-io-mode":              {kind: autoOption},
	"log-level":                   {kind: levelOption},
	"fuse-flush-handle-interrupt": {kind: boolOption},
}

var logLevels = []string{"NONE", "CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG", "TRACE"}

// ParseOptions reads options as mount(8) writes them behind -o: separated by
// commas. The error names the option that is wrong and what would be right.
func ParseOptions(s string) (Options, error) {
	chosen := map[string]string{}
	for word := range strings.SplitSeq(s, ",") {
		if word == "" {
			continue
		}
		key, canonical, err := parseOption(word)
		if err != nil {
			return "", err
		}
		if other, twice := chosen[key]; twice && other != canonical {
			return "", fmt.Errorf("client option %s is given twice, as %s and as %s", key, other, canonical)
		}
		chosen[key] = canonical
	}
	return Options(strings.Join(slices.Sorted(maps.Values(chosen)), ",")), nil
}

func parseOption(word string) (key, canonical string, err error) {
	key, value, hasValue := strings.Cut(word, "=")
	option, known := allowed[key]
	if !known {
		return "", "", fmt.Errorf("client option %q is not one of %s", key, strings.Join(slices.Sorted(maps.Keys(allowed)), ", "))
	}
	switch option.kind {
	case flagOption, fuseOption:
		if hasValue {
			return "", "", fmt.Errorf("client option %s takes no value, %q was given", key, value)
		}
		return key, key, nil
	case numberOption:
		if n, err := strconv.ParseUint(value, 10, 31); err == nil {
			return key, key + "=" + strconv.FormatUint(n, 10), nil
		}
		return "", "", fmt.Errorf("client option %s takes a whole number, %q was given", key, value)
	case levelOption:
		if level := strings.ToUpper(value); slices.Contains(logLevels, level) {
			return key, key + "=" + level, nil
		}
		return "", "", fmt.Errorf("client option %s takes one of %s, %q was given", key, strings.Join(logLevels, ", "), value)
	default:
		return parseSwitch(key, value, option.kind)
	}
}

func parseSwitch(key, value string, kind optionKind) (k, canonical string, err error) {
	switch value {
	case "on", "yes", "true", "1", "enable":
		return key, key + "=on", nil
	case "off", "no", "false", "0", "disable":
		return key, key + "=off", nil
	case "auto":
		if kind == autoOption {
			return key, key + "=auto", nil
		}
	}
	return "", "", fmt.Errorf("client option %s takes on or off, %q was given", key, value)
}

// args are the arguments of glusterfs(8) for o, each one an argument of its own.
func (o Options) args() []string {
	var args, fuse []string
	for word := range strings.SplitSeq(string(o), ",") {
		key, value, hasValue := strings.Cut(word, "=")
		option, known := allowed[key]
		switch {
		case !known: // "", since every Options comes from ParseOptions
		case option.kind == fuseOption:
			fuse = append(fuse, key)
		case option.flag != "":
			args = append(args, option.flag)
		case hasValue:
			args = append(args, "--"+key+"="+value)
		default:
			args = append(args, "--"+key)
		}
	}
	if len(fuse) > 0 {
		args = append(args, "--fuse-mountopts="+strings.Join(fuse, ","))
	}
	return args
}

// has tells whether an option of that key was chosen.
func (o Options) has(key string) bool {
	for word := range strings.SplitSeq(string(o), ",") {
		if k, _, _ := strings.Cut(word, "="); k == key {
			return true
		}
	}
	return false
}
