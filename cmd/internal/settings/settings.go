// Package settings reads a program's configuration into one typed struct: defaults, then
// a file, then the environment, then flags, each overriding the one before.
//
// It is the only place that knows viper. A key that the struct does not have is refused
// with its name, so that a misspelt setting fails at the start and not in production.
//
// A field with the tag mapstructure:"nodeName" is set by the key nodeName in the file, by
// the variable <PREFIX>_NODE_NAME, and by the flag --node-name if the program has one.
// What is in the struct before is the default.
package settings

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"unicode"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// Sources says where configuration comes from.
type Sources struct {
	// File in YAML or JSON; "" reads none. A file that is named must be there.
	File string
	// EnvPrefix begins the names of environment variables, such as "EDGECACHE"; "" reads none.
	EnvPrefix string
	// Flags of the program, nil for none. Only flags that were given count.
	Flags *pflag.FlagSet
}

// Load fills a struct, given by pointer, from all sources.
func Load(from Sources, into any) error {
	v := viper.New()
	if err := readFile(v, from.File); err != nil {
		return err
	}
	for _, key := range keys(into) {
		if from.EnvPrefix != "" {
			if err := v.BindEnv(key, from.EnvPrefix+"_"+snake(key)); err != nil {
				return fmt.Errorf("binding environment to %s: %w", key, err)
			}
		}
		if f := given(from.Flags, key); f != nil {
			if err := v.BindPFlag(key, f); err != nil {
				return fmt.Errorf("binding flag --%s: %w", f.Name, err)
			}
		}
	}
	if err := v.UnmarshalExact(into, viper.DecodeHook(hooks())); err != nil {
		return explain(from.File, err)
	}
	return nil
}

// Given tells the flags that were given, by their keys, as a file has them.
func Given(flags *pflag.FlagSet, of any) map[string]any {
	values := map[string]any{}
	for _, key := range keys(of) {
		f := given(flags, key)
		if f == nil {
			continue
		}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			values[key] = list.GetSlice()
			continue
		}
		values[key] = f.Value.String()
	}
	return values
}

// given is the flag of a key, nil where there is none or it was not given.
func given(flags *pflag.FlagSet, key string) *pflag.Flag {
	if flags == nil {
		return nil
	}
	if f := flags.Lookup(kebab(key)); f != nil && f.Changed {
		return f
	}
	return nil
}

func readFile(v *viper.Viper, file string) error {
	if file == "" {
		return nil
	}
	v.SetConfigFile(file)
	if !strings.HasSuffix(file, ".json") {
		v.SetConfigType("yaml")
	}
	if err := v.ReadInConfig(); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("configuration file %s does not exist", file)
		}
		return fmt.Errorf("reading configuration file %s: %w", file, err)
	}
	return nil
}

func hooks() mapstructure.DecodeHookFunc {
	return mapstructure.ComposeDecodeHookFunc(
		mapstructure.StringToTimeDurationHookFunc(),
		mapstructure.StringToSliceHookFunc(","),
		mapstructure.TextUnmarshallerHookFunc(),
	)
}

// explain names the file: its keys are the only ones that can be unknown.
func explain(file string, err error) error {
	if file == "" {
		return fmt.Errorf("reading configuration: %w", err)
	}
	return fmt.Errorf("reading configuration file %s: %w", file, err)
}

// keys gives the top-level keys of a struct.
func keys(into any) []string {
	t := reflect.TypeOf(into).Elem()
	var out []string
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("mapstructure"), ",")
		if name != "" && name != "-" {
			out = append(out, name)
		}
	}
	return out
}

// kebab turns nodeName into node-name.
func kebab(key string) string { return strings.Join(words(key), "-") }

// snake turns nodeName into NODE_NAME.
func snake(key string) string { return strings.ToUpper(strings.Join(words(key), "_")) }

// words splits lowerCamelCase. A run of capitals is one word: kubeAPIQPS is kube, apiqps.
func words(key string) []string {
	var out []string
	var before rune
	for _, r := range key {
		if unicode.IsUpper(r) && !unicode.IsUpper(before) || len(out) == 0 {
			out = append(out, "")
		}
		out[len(out)-1] += string(unicode.ToLower(r))
		before = r
	}
	return out
}
