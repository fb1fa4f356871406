//! Pages of lists, as OpenAI has them.

use crate::failure::Failure;
use serde::{Deserialize, Serialize};
use services::files::Slice;
use utoipa::ToSchema;

/// Newest first, unless a client says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[schema(as = ListOrder)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    Asc,
    #[default]
    Desc,
}

/// Which page a client asks for.
#[derive(Debug, Deserialize)]
pub struct Wanted {
    after: Option<String>,
    limit: Option<u32>,
    #[serde(default)]
    order: Order,
}

impl Wanted {
    /// The slice of a store's rows: `usual` of them where nothing is said, at most `most`. `parse` reads an id.
    ///
    /// # Errors
    /// `after` is no id.
    pub fn slice<T>(&self, usual: u32, most: u32, parse: impl FnOnce(&str) -> Option<T>) -> Result<Slice<T>, Failure> {
        let unknown = || Failure::invalid("after", None, "after has a value that is not known here.");
        let after = self.after.as_deref().map(|id| parse(id).ok_or_else(unknown)).transpose()?;
        Ok(Slice { after, limit: self.limit.unwrap_or(usual).clamp(1, most), ascending: self.order == Order::Asc })
    }
}

/// A page.
#[derive(Debug, Serialize, ToSchema)]
pub struct List<T> {
    object: &'static str,
    data: Vec<T>,
    #[schema(required)]
    first_id: Option<String>,
    #[schema(required)]
    last_id: Option<String>,
    has_more: bool,
}

impl<T> List<T> {
    /// `id` names an entry, as clients ask for what is behind it.
    pub fn new(data: Vec<T>, has_more: bool, id: impl Fn(&T) -> String) -> Self {
        let (first_id, last_id) = (data.first().map(&id), data.last().map(&id));
        Self { object: "list", data, first_id, last_id, has_more }
    }

    /// Of rows that were fetched with one more than `limit`.
    pub fn cut(mut data: Vec<T>, limit: u32, id: impl Fn(&T) -> String) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let has_more = data.len() > limit;
        data.truncate(limit);
        Self::new(data, has_more, id)
    }
}

#[cfg(test)]
mod tests {
    use super::List;
    use serde_json::json;

    #[test]
    fn a_page_says_where_it_begins_and_ends_and_whether_there_is_more() {
        let page = |data: Vec<u32>| serde_json::to_value(List::cut(data, 2, ToString::to_string)).unwrap();
        assert_eq!(page(vec![]), json!({ "object": "list", "data": [], "first_id": null, "last_id": null, "has_more": false }));
        assert_eq!(page(vec![1, 2]), json!({ "object": "list", "data": [1, 2], "first_id": "1", "last_id": "2", "has_more": false }));
        assert_eq!(page(vec![1, 2, 3]), json!({ "object": "list", "data": [1, 2], "first_id": "1", "last_id": "2", "has_more": true }));
    }
}
