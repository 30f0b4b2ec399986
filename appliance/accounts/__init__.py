"""Who is asking (`Principal`) and whether they may (`Action`). State and contract: README.md."""
