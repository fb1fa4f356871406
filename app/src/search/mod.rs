//! Full-text search over the own messages: `/search?q=…`.

pub mod api;
mod page;

pub use page::SearchPage;
