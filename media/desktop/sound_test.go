package desktop

import (
	"slices"
	"testing"

	"github.com/jfreymuth/pulse"
	"github.com/jfreymuth/pulse/proto"

	"fenrir/media"
)

func TestSoundCardHasTheLoudspeakersAskedFor(t *testing.T) {
	five := proto.ChannelMap{proto.ChannelFrontLeft, proto.ChannelFrontRight, proto.ChannelFrontCenter, proto.ChannelLFE, proto.ChannelRearLeft, proto.ChannelRearRight}
	for channels, want := range map[int]proto.ChannelMap{
		2: five[:2],
		6: five,
		8: append(slices.Clone(five), proto.ChannelLeftSide, proto.ChannelRightSide),
	} {
		spec := program(t, "exec sleep 1000")
		spec.Channels = channels
		r := launch(t, spec)
		sound := r.until(media.DesktopSound).Sound
		if sound.Channels != channels {
			t.Errorf("%d channels are told, want %d", sound.Channels, channels)
		}
		c, err := pulse.NewClient(pulse.ClientServerString(sound.Server))
		if err != nil {
			t.Fatal(err)
		}
		source, err := c.SourceByID(sound.Source)
		if err != nil {
			t.Fatal(err)
		}
		if got := source.Channels(); !slices.Equal(got, want) {
			t.Errorf("the card of %d channels has %v, want %v", channels, got, want)
		}
		c.Close()
		r.stop()
	}
	spec := program(t, "exec sleep 1000")
	spec.Channels = 3
	if err := check(spec); err == nil {
		t.Error("a card of 3 channels is taken")
	}
}
