"""OKX's language: channels, frames, requests and answers, all pure (docs/okx-deribit-facts.md)."""
