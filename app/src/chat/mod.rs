//! The chat: the page, its side bar and their server functions.
//!
//! [`state::Chat`] is what the page knows, [`actions::Actions`] what a person can do with it,
//! [`stream`] how a running answer arrives; the other modules show it.

mod actions;
mod answer;
pub mod api;
mod attachments;
mod branches;
mod composer;
mod copy;
mod drafts;
mod empty;
mod groups;
mod header;
mod list;
mod message_list;
mod model_picker;
mod page;
mod question;
mod rating;
mod rows;
mod scroller;
mod settings_panel;
mod sidebar;
mod sidebar_row;
mod speech;
mod state;
mod stats;
mod stream;
mod temporary;
mod window;

pub use drafts::prepare_new_chat;
pub use list::{provide_conversations, use_conversations};
pub use message_list::prepare;
pub use page::ChatPage;
pub use sidebar::Sidebar;
