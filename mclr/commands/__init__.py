"""Commands for people, grouped by subject; heavy imports happen inside the commands."""
