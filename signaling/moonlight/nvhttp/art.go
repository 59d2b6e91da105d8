package nvhttp

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"

	"fenrir/signaling/moonlight/boxart"
)

// Bounds of pictures: one has some 30 kB, and 600 × 800 pixels while it is made.
const (
	maxArt     = 128 // kept
	makersOfIt = 2   // at a time; a client asks for all of its list at once
)

// art keeps pictures, which are made when they are asked for. The zero value is
// ready.
type art struct {
	once   sync.Once
	makers chan struct{}

	mu   sync.Mutex
	made []picture // newest last; guarded by mu
}

type picture struct {
	of  app
	png []byte
}

// of is the picture of an app, whose icon is asked for when it is not there yet.
func (c *art) of(ctx context.Context, a app, icon func(context.Context) ([]byte, error), log *slog.Logger) ([]byte, error) {
	if png := c.get(a); png != nil {
		return png, nil
	}
	c.once.Do(func() { c.makers = make(chan struct{}, makersOfIt) })
	select {
	case c.makers <- struct{}{}:
		defer func() { <-c.makers }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if png := c.get(a); png != nil {
		return png, nil // made while we waited
	}
	raw, err := icon(ctx)
	if err != nil {
		return nil, err
	}
	png, err := boxart.Compose(a.ID, a.Title, raw)
	if errors.Is(err, boxart.ErrIcon) {
		log.Warn("a program's icon is not in its box art", "program", a.ID, "err", err)
		err = nil
	}
	if err != nil {
		return nil, err
	}
	c.put(picture{a, png})
	return png, nil
}

func (c *art) get(a app) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.made {
		if p.of == a {
			return p.png
		}
	}
	return nil
}

func (c *art) put(p picture) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made = slices.DeleteFunc(c.made, func(o picture) bool { return o.of == p.of })
	if n := len(c.made) - maxArt + 1; n > 0 {
		c.made = slices.Delete(c.made, 0, n)
	}
	c.made = append(c.made, p)
}
