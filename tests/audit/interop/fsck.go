// Other people's reading of our log: Go's golang.org/x/mod/sumdb, which reads the checksum database of Go modules.
//
//	fsck KEY LOG [OLDER-CHECKPOINT OLDER-KEY [RECEIPT...]]
//
// LOG is a static tlog-tiles folder (`checkpoint`, `tile/…`). Everything here that decides is theirs: the note is opened
// by sumdb/note, tiles are checked against the tree by sumdb/tlog, and so are the older checkpoint, of which this log
// must be a continuation, and every receipt. Ours is only where a tile lies and how entries are cut.
package main

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

type folder string

func (f folder) Height() int                      { return height }
func (f folder) SaveTiles([]tlog.Tile, [][]byte)  {}
func (f folder) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		data, err := os.ReadFile(filepath.Join(string(f), path(strconv.Itoa(tile.L), tile.N, tile.W)))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

// c2sp.org/tlog-tiles: the number in groups of three digits, all but the last with an x in front.
func path(level string, index int64, width int) string {
	name := fmt.Sprintf("%03d", index%1000)
	for index >= 1000 {
		index /= 1000
		name = fmt.Sprintf("x%03d/%s", index%1000, name)
	}
	if width < 1<<height {
		name = fmt.Sprintf("%s.p/%d", name, width)
	}
	return filepath.Join("tile", level, name)
}

func check(err error, what string) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "fsck: %s: %v\n", what, err)
		os.Exit(1)
	}
}

func open(signed []byte, key string) tlog.Tree {
	verifier, err := note.NewVerifier(strings.TrimSpace(key))
	check(err, "key")
	opened, err := note.Open(signed, note.VerifierList(verifier))
	check(err, "note")
	lines := strings.Split(opened.Text, "\n")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	check(err, "size")
	hash, err := tlog.ParseHash(lines[2])
	check(err, "root")
	return tlog.Tree{N: size, Hash: hash}
}

func checkEntries(log string, tree tlog.Tree, hashes tlog.HashReader) {
	for first := int64(0); first < tree.N; first += 1 << height {
		width := int(min64(tree.N-first, 1<<height))
		data, err := os.ReadFile(filepath.Join(log, path("entries", first>>height, width)))
		check(err, "entries")
		var indexes []int64
		var found []tlog.Hash
		for i := 0; i < width; i++ {
			if len(data) < 2 || len(data) < 2+int(binary.BigEndian.Uint16(data)) {
				check(fmt.Errorf("record %d is cut", first+int64(i)), "entries")
			}
			length := int(binary.BigEndian.Uint16(data))
			found = append(found, tlog.RecordHash(data[2:2+length]))
			indexes = append(indexes, tlog.StoredHashIndex(0, first+int64(i)))
			data = data[2+length:]
		}
		if len(data) != 0 {
			check(fmt.Errorf("bytes behind record %d", first+int64(width)-1), "entries")
		}
		stored, err := hashes.ReadHashes(indexes)
		check(err, "tiles")
		for i := range stored {
			if stored[i] != found[i] {
				check(fmt.Errorf("record %d is not the one in the tree", first+int64(i)), "entries")
			}
		}
	}
}

func checkReceipt(name string, key string) {
	raw, err := os.ReadFile(name)
	check(err, name)
	head, signed, found := strings.Cut(string(raw), "\n\n")
	lines := strings.Split(head, "\n")
	if !found || len(lines) < 3 || lines[0] != "c2sp.org/tlog-proof@v1" {
		check(fmt.Errorf("not a tlog-proof"), name)
	}
	header, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(lines[1], "extra "))
	check(err, name)
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[2], "index "), 10, 64)
	check(err, name)
	var proof tlog.RecordProof
	for _, line := range lines[3:] {
		hash, err := tlog.ParseHash(line)
		check(err, name)
		proof = append(proof, hash)
	}
	tree := open([]byte(signed), key)
	check(tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(header)), name)
}

func min64(a, b int64) int64 {
	if a < b {
		return a
	}
	return b
}

// Every tile of the tree, full and partial: the reader above fetches only those that it needs.
func checkTiles(log string, tree tlog.Tree, hashes tlog.HashReader) {
	for level, count := 0, tree.N; count > 0; level, count = level+1, count>>height {
		for first := int64(0); first < count; first += 1 << height {
			width := int(min64(count-first, 1<<height))
			tile := tlog.Tile{H: height, L: level, N: first >> height, W: width}
			stored, err := folder(log).ReadTiles([]tlog.Tile{tile})
			check(err, "tile")
			made, err := tlog.ReadTileData(tile, hashes)
			check(err, "tile")
			if string(made) != string(stored[0]) {
				check(fmt.Errorf("%s differs from the records", path(strconv.Itoa(level), tile.N, width)), "tile")
			}
		}
	}
}

func main() {
	key, log, rest := os.Args[1], os.Args[2], os.Args[3:]
	signed, err := os.ReadFile(filepath.Join(log, "checkpoint"))
	check(err, "checkpoint")
	tree := open(signed, key)
	hashes := tlog.TileHashReader(tree, folder(log))
	root, err := tlog.TreeHash(tree.N, hashes)
	check(err, "tiles")
	if root != tree.Hash {
		check(fmt.Errorf("the root of the tiles is not the signed one"), "tiles")
	}
	checkEntries(log, tree, hashes)
	checkTiles(log, tree, hashes)
	if len(rest) > 1 {
		older, err := os.ReadFile(rest[0])
		check(err, "older checkpoint")
		before := open(older, rest[1])
		proof, err := tlog.ProveTree(tree.N, before.N, hashes)
		check(err, "consistency")
		check(tlog.CheckTree(proof, tree.N, tree.Hash, before.N, before.Hash), "consistency")
		rest = rest[2:]
	}
	for _, name := range rest {
		checkReceipt(name, key)
	}
	fmt.Printf("%d records\n", tree.N)
}
