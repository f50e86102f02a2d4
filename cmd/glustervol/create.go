package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/glustervol/glustervol/volume"
)

func newCreateCommand(o *options) *cobra.Command {
	var words []string
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Create a volume",
		Long: `Create a volume, as 'docker volume create -d glustervol' does. A volume that is
there with the same options is success.

Options: ` + strings.Join(volume.OptionKeys(), ", "),
		Example: `  glustervol create -o uid=999 -o gid=999 -o mode=0750 db`,
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			chosen, err := parseOptions(words)
			if err != nil {
				return err
			}
			v, err := o.client().Create(cmd.Context(), args[0], chosen)
			if err != nil {
				return err
			}
			if o.json {
				return o.print(v, nil)
			}
			_, err = fmt.Fprintln(o.stdout, v.Name)
			return err
		},
	}
	cmd.Flags().StringArrayVarP(&words, "opt", "o", nil, "an option of the volume, `KEY=VALUE`")
	return o.jsonFlag(cmd)
}

// parseOptions reads options as docker volume create does: an option without a
// value has an empty one.
func parseOptions(words []string) (map[string]string, error) {
	chosen := map[string]string{}
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		if old, twice := chosen[key]; twice && old != value {
			return nil, usageError{fmt.Errorf("option %s is given twice", key)}
		}
		chosen[key] = value
	}
	return chosen, nil
}
