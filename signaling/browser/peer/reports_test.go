package peer

import (
	"testing"

	"github.com/pion/rtcp"
	"github.com/pion/transport/v5/packetio"
	"github.com/pion/webrtc/v4"
)

func TestFeedbackOnStreamsThatNobodyReads(t *testing.T) {
	const video, audio, retransmissions = 1, 2, 3
	marshal := func(p rtcp.Packet) []byte {
		b, err := p.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	feedback := marshal(&rtcp.TransportLayerCC{
		Header:    rtcp.Header{Count: rtcp.FormatTCC, Type: rtcp.TypeTransportSpecificFeedback, Length: 5, Padding: true},
		MediaSSRC: retransmissions, PacketStatusCount: 1,
		PacketChunks: []rtcp.PacketStatusChunk{&rtcp.RunLengthChunk{PacketStatusSymbol: rtcp.TypeTCCPacketReceivedSmallDelta, RunLength: 1}},
		RecvDeltas:   []*rtcp.RecvDelta{{Type: rtcp.TypeTCCPacketReceivedSmallDelta, Delta: 1000}},
	})
	const client = 4 // pion takes this for who is addressed
	question := marshal(&rtcp.ExtendedReport{SenderSSRC: client, Reports: []rtcp.ReportBlock{
		&rtcp.ReceiverReferenceTimeReportBlock{NTPTimestamp: 1 << 40},
	}})
	var r reports
	early := r.buffer(packetio.RTCPBufferPacket, retransmissions)
	if n, err := early.Write(feedback); n != len(feedback) || err != nil {
		t.Errorf("without a video: %d, %v", n, err)
	}
	r.reads(video, webrtc.RTPCodecTypeVideo)
	r.reads(audio, webrtc.RTPCodecTypeAudio)
	main, sound := r.buffer(packetio.RTCPBufferPacket, video), r.buffer(packetio.RTCPBufferPacket, audio)
	other := r.buffer(packetio.RTCPBufferPacket, retransmissions)
	for _, b := range [][]byte{
		marshal(&rtcp.ReceiverReport{Reports: []rtcp.ReceptionReport{{SSRC: retransmissions}}}),
		marshal(&rtcp.TransportLayerNack{MediaSSRC: retransmissions, Nacks: []rtcp.NackPair{{PacketID: 1}}}),
		{}, {0x8f}, feedback,
	} {
		if n, err := other.Write(b); n != len(b) || err != nil {
			t.Errorf("%x: %d, %v", b, n, err)
		}
	}
	if n, err := r.buffer(packetio.RTCPBufferPacket, client).Write(question); n != len(question) || err != nil {
		t.Errorf("a question: %d, %v", n, err)
	}
	if _, err := sound.Write([]byte("sound")); err != nil {
		t.Fatal(err)
	}
	if _, err := main.Write([]byte("after")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	for _, want := range []string{string(feedback), string(question), "after"} {
		if n, err := main.Read(buf); err != nil || string(buf[:n]) != want {
			t.Errorf("read %x, %v, want %x", buf[:n], err, want)
		}
	}
	if n, err := sound.Read(buf); err != nil || string(buf[:n]) != "sound" {
		t.Errorf("the sound's reports: %q, %v", buf[:n], err)
	}
	if err := main.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := other.Write(feedback); n != len(feedback) || err != nil {
		t.Errorf("after the end: %d, %v", n, err)
	}
}
