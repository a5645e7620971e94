"""The commands of `klinenode`: their options, and what they print. Modules are imported when a command runs."""
