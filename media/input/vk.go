package input

// Keycodes of X servers with evdev rules are the kernel's key numbers plus 8
// (linux/input-event-codes.h).
const evdev = 8

// VKKeypadEnter is the virtual-key code that stands for Enter of the numeric
// pad. Windows tells it from Return by a flag that the protocol lacks; 0x0E is
// unassigned there.
const VKKeypadEnter = 0x0e

// keycodes are the X keycodes of virtual-key codes, by physical position on a US
// board; 0 for codes that no keyboard sends.
var keycodes = func() (t [256]byte) {
	set := func(first uint16, keys ...byte) {
		for i, k := range keys {
			t[first+uint16(i)] = k + evdev
		}
	}
	set('A', 30, 48, 46, 32, 18, 33, 34, 35, 23, 36, 37, 38, 50, // a…m
		49, 24, 25, 16, 19, 31, 20, 22, 47, 17, 45, 21, 44) // n…z
	set('0', 11, 2, 3, 4, 5, 6, 7, 8, 9, 10)
	set(0x60, 82, 79, 80, 81, 75, 76, 77, 71, 72, 73)                     // numeric pad 0…9
	set(0x6a, 55, 78, 121, 74, 83, 98)                                    // * + separator - . /
	set(0x70, 59, 60, 61, 62, 63, 64, 65, 66, 67, 68, 87, 88)             // F1…F12
	set(0x7c, 183, 184, 185, 186, 187, 188, 189, 190, 191, 192, 193, 194) // F13…F24
	set(0x21, 104, 109, 107, 102, 105, 103, 106, 108)                     // PageUp PageDown End Home, arrows
	set(0xa0, 42, 54, 29, 97, 56, 100)                                    // Shift Ctrl Alt, left and right; right Alt is AltGr
	set(0xa6, 158, 159, 173, 128, 217, 156, 172)                          // browser: back forward refresh stop search favourites home
	set(0xad, 113, 114, 115, 163, 165, 166, 164)                          // mute, volume down and up, next, previous, stop, play/pause
	set(0xb4, 155, 226, 157, 140)                                         // mail, media, computer, calculator
	set(0xba, 39, 13, 51, 12, 52, 53, 41)                                 // ; = , - . / `
	set(0xdb, 26, 43, 27, 40)                                             // [ \ ] '
	for vk, key := range map[uint16]byte{
		0x03:          119, // Cancel: Ctrl+Pause
		0x08:          14,  // Backspace
		0x09:          15,  // Tab
		0x0c:          76,  // Clear: 5 of the numeric pad
		0x0d:          28,  // Return
		VKKeypadEnter: 96,
		0x10:          42,  // Shift, either
		0x11:          29,  // Ctrl, either
		0x12:          56,  // Alt, either
		0x13:          119, // Pause
		0x14:          58,  // Caps Lock
		0x15:          122, // Hangul
		0x19:          123, // Hanja, Kanji
		0x1b:          1,   // Escape
		0x1c:          92,  // Convert: Henkan
		0x1d:          94,  // Nonconvert: Muhenkan
		0x20:          57,  // space
		0x29:          0,   // Select: beyond X's keycodes
		0x2a:          210, // Print
		0x2b:          134, // Execute, the browsers' Open
		0x2c:          99,  // Print Screen
		0x2d:          110, // Insert
		0x2e:          111, // Delete
		0x2f:          138, // Help
		0x5b:          125, // left Windows
		0x5c:          126, // right Windows
		0x5d:          127, // Menu
		0x5f:          142, // Sleep
		0x90:          69,  // Num Lock
		0x91:          70,  // Scroll Lock
		0x92:          117, // = of the numeric pad
		0xc1:          89,  // Ro (JIS), the Brazilian slash
		0xc2:          121, // , of the numeric pad (JIS, Brazilian)
		0xe1:          124, // Yen (JIS)
		0xe2:          86,  // the key between left Shift and Z
		0xf0:          58,  // Eisu (JIS): in Caps Lock's place
		0xf1:          90,  // Katakana
		0xf2:          93,  // Katakana/Hiragana
		0xf3:          85,  // Zenkaku/Hankaku
		0xf4:          85,
		0xfa:          207, // Play
	} {
		if key != 0 {
			set(vk, key)
		}
	}
	return t
}()

// Keycode is the X keycode of the key that has a virtual-key code on a US
// board, or 0 for codes that stand for no key.
func Keycode(vk uint16) byte {
	if vk >= uint16(len(keycodes)) {
		return 0
	}
	return keycodes[vk]
}
