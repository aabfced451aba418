package homer

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// HEP3's generic chunks (vendor 0), from "The Hep/EEP protocol", revision 3.
const (
	chunkFamily      = 0x01
	chunkTransport   = 0x02
	chunkSource4     = 0x03
	chunkTarget4     = 0x04
	chunkSource6     = 0x05
	chunkTarget6     = 0x06
	chunkSourcePort  = 0x07
	chunkTargetPort  = 0x08
	chunkSeconds     = 0x09
	chunkMicros      = 0x0a
	chunkType        = 0x0b
	chunkNode        = 0x0c
	chunkKey         = 0x0e
	chunkPayload     = 0x0f
	chunkCorrelation = 0x11
	chunkNodeName    = 0x13
)

const (
	familyIPv4 = 2
	familyIPv6 = 10
	overTCP    = 6
	typeLog    = 100 // a log of JSON
	headerSize = 6   // "HEP3" and the length of the packet
	// maxPacket is the largest packet that capture servers accept.
	maxPacket = 8192
)

// packet is one HEP3 packet.
type packet struct {
	source, target netip.AddrPort
	at             time.Time
	node           uint32
	nodeName       string
	key            string
	correlation    string
	payload        []byte
}

// append appends the packet to dst.
func (p *packet) append(dst []byte) []byte {
	begin := len(dst)
	dst = append(dst, "HEP3\x00\x00"...)
	source, target := p.source.Addr().Unmap(), p.target.Addr().Unmap()
	if source.Is4() && target.Is4() {
		dst = append(appendChunk(dst, chunkFamily, 1), familyIPv4)
		dst = appendBytes(dst, chunkSource4, source.AsSlice())
		dst = appendBytes(dst, chunkTarget4, target.AsSlice())
	} else {
		from, to := source.As16(), target.As16() // an IPv4 address is a mapped one then
		dst = append(appendChunk(dst, chunkFamily, 1), familyIPv6)
		dst = appendBytes(dst, chunkSource6, from[:])
		dst = appendBytes(dst, chunkTarget6, to[:])
	}
	dst = append(appendChunk(dst, chunkTransport, 1), overTCP)
	dst = binary.BigEndian.AppendUint16(appendChunk(dst, chunkSourcePort, 2), p.source.Port())
	dst = binary.BigEndian.AppendUint16(appendChunk(dst, chunkTargetPort, 2), p.target.Port())
	micros := p.at.UnixMicro()
	dst = binary.BigEndian.AppendUint32(appendChunk(dst, chunkSeconds, 4), uint32(micros/1e6))
	dst = binary.BigEndian.AppendUint32(appendChunk(dst, chunkMicros, 4), uint32(micros%1e6))
	dst = append(appendChunk(dst, chunkType, 1), typeLog)
	dst = binary.BigEndian.AppendUint32(appendChunk(dst, chunkNode, 4), p.node)
	if p.nodeName != "" {
		dst = appendBytes(dst, chunkNodeName, []byte(p.nodeName))
	}
	if p.key != "" {
		dst = appendBytes(dst, chunkKey, []byte(p.key))
	}
	dst = appendBytes(dst, chunkCorrelation, []byte(p.correlation))
	dst = appendBytes(dst, chunkPayload, p.payload)
	binary.BigEndian.PutUint16(dst[begin+4:], uint16(len(dst)-begin))
	return dst
}

// appendChunk appends the header of a chunk with size bytes of content.
func appendChunk(dst []byte, kind uint16, size int) []byte {
	dst = binary.BigEndian.AppendUint16(dst, 0) // vendor
	dst = binary.BigEndian.AppendUint16(dst, kind)
	return binary.BigEndian.AppendUint16(dst, uint16(headerSize+size))
}

func appendBytes(dst []byte, kind uint16, content []byte) []byte {
	return append(appendChunk(dst, kind, len(content)), content...)
}
