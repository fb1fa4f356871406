//! The design system: looks and behaviour, no product words. Colours, type and spacing are the
//! tokens of `style/tailwind.css`; a component that needs another look gets it there.

pub mod badge;
pub mod browser;
pub mod button;
pub mod chart;
pub mod dialog;
pub mod empty;
pub mod field;
pub mod icon;
pub mod kbd;
pub mod layout;
pub mod live;
pub mod markdown;
pub mod menu;
pub mod problem;
pub mod shortcuts;
pub mod skeleton;
pub mod table;
pub mod tabs;
pub mod theme;
pub mod time;
pub mod toast;
