//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/playwright-community/playwright-go"
)

// The browser is shared by the tests, each of which has its own context.
var chromium struct {
	once    sync.Once
	pw      *playwright.Playwright
	browser playwright.Browser
	err     error
}

// browser starts Chromium with Playwright's driver, whose folder
// FENRIR_PLAYWRIGHT names (made by scripts/install-test.sh).
func browser(t *testing.T) playwright.Browser {
	t.Helper()
	chromium.once.Do(func() {
		driver := os.Getenv("FENRIR_PLAYWRIGHT")
		if driver == "" {
			driver, _ = filepath.Abs("../.cache/playwright")
		}
		if os.Getenv("PLAYWRIGHT_NODEJS_PATH") == "" {
			os.Setenv("PLAYWRIGHT_NODEJS_PATH", "/usr/bin/node")
			if _, err := os.Stat("/usr/bin/node"); err != nil {
				os.Setenv("PLAYWRIGHT_NODEJS_PATH", "/usr/local/bin/node")
			}
		}
		chromium.pw, chromium.err = playwright.Run(&playwright.RunOptions{DriverDirectory: driver, SkipInstallBrowsers: true})
		if chromium.err != nil {
			return
		}
		chromium.browser, chromium.err = launch(chromiumPath())
	})
	if chromium.err != nil {
		t.Fatalf("start Chromium: %v", chromium.err)
	}
	return chromium.browser
}

// chromiumPath is the browser under test.
func chromiumPath() string {
	if path := os.Getenv("FENRIR_CHROMIUM"); path != "" {
		return path
	}
	return "/usr/bin/chromium"
}

// launch starts a Chromium once Playwright's driver runs.
func launch(path string) (playwright.Browser, error) {
	return chromium.pw.Chromium.Launch(playwright.BrowserTypeLaunchOptions{
		ExecutablePath: playwright.String(path),
		Headless:       playwright.Bool(true),
		Args: []string{
			"--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
			"--disable-background-networking", "--disable-component-update", "--disable-sync",
			"--allow-loopback-in-peer-connection", // the server under test is on loopback
			"--disable-background-timer-throttling", "--disable-renderer-backgrounding", "--disable-backgrounding-occluded-windows",
		},
	})
}

func stopBrowser() {
	if chromium.browser != nil {
		chromium.browser.Close() // the process ends either way
	}
	if chromium.pw != nil {
		chromium.pw.Stop() // likewise
	}
}

// tab opens a page in a context of its own (own cookies) of the given size.
func tab(t *testing.T, width, height int) playwright.Page {
	t.Helper()
	return tabOf(t, browser(t), width, height)
}

// tabOf does so in a browser of one's own.
func tabOf(t *testing.T, b playwright.Browser, width, height int) playwright.Page {
	t.Helper()
	ctx, err := b.NewContext(playwright.BrowserNewContextOptions{
		IgnoreHttpsErrors: playwright.Bool(true),
		Viewport:          &playwright.Size{Width: width, Height: height},
		Permissions:       []string{"clipboard-read", "clipboard-write"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ctx.Close() })
	return page(t, ctx)
}

// page opens a page in ctx; what its console says goes into the test's log if it fails.
func page(t *testing.T, ctx playwright.BrowserContext) playwright.Page {
	t.Helper()
	p, err := ctx.NewPage()
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var lines []string
	p.OnConsole(func(m playwright.ConsoleMessage) {
		mu.Lock()
		defer mu.Unlock()
		if len(lines) < 200 {
			lines = append(lines, m.Type()+": "+m.Text())
		}
	})
	p.OnPageError(func(err error) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, "uncaught: "+err.Error())
	})
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		if t.Failed() {
			for _, l := range lines {
				t.Log("page ", l)
			}
		}
	})
	return p
}
