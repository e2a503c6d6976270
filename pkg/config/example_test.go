package config_test

import (
	"fmt"
	"os"
	"time"

	"example.com/base-app/pkg/config"
	"example.com/base-app/pkg/fault"
)

// A program loads its settings once, from config.OS(), and shows them on request.
func Example() {
	var cfg struct {
		Shop struct {
			URL     string        `envconfig:"SHOP_URL" required:"true" desc:"where orders go"`
			Timeout time.Duration `envconfig:"SHOP_TIMEOUT" default:"5s" min:"1s" max:"1m" desc:"per order"`
			Token   config.Secret `envconfig:"SHOP_TOKEN" desc:"from the shop's settings page"`
		} `group:"SHOP"`
	}
	env := config.Environment{Vars: []string{"SHOP_TIMEOUT=5", "SHOP_TOKN=hunter2"}}
	_, err := config.Load(&cfg, env)
	fmt.Println(err)
	fmt.Println("exit", fault.ExitCode(err))

	env.Vars = []string{"SHOP_URL=https://shop.example", "SHOP_TOKEN=hunter2"}
	if _, err := config.Load(&cfg, env); err != nil {
		fmt.Println(err)
	}
	fmt.Println(cfg.Shop)
	list, _ := config.Describe(&cfg)
	_ = config.WriteText(os.Stdout, list)
	// Output:
	// SHOP_TIMEOUT: not a duration; write a duration from 1s to 1m, such as 5s
	// SHOP_TOKN: unknown setting; did you mean SHOP_TOKEN?
	// SHOP_URL: required, but not set or empty; set it: where orders go
	// exit 78
	// {https://shop.example 5s [redacted]}
	// NAME          VALUE                 DEFAULT  MEANING
	// SHOP_URL      https://shop.example  -        where orders go
	// SHOP_TIMEOUT  5s                    5s       per order
	// SHOP_TOKEN    set                   -        from the shop's settings page
}
