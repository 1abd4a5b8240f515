"""What a tier costs before anything runs: work, time, memory, disk, and what to cut first."""
