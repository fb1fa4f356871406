//! The built interface: where it lies, and its static files.

use crate::config::foreign_variable;
use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware::{Next, from_fn},
    response::Response,
};
use leptos::config::LeptosOptions;
use std::path::{Path, PathBuf};
use tower_http::services::{ServeDir, ServeFile};

/// Run-time options of the interface, part of the binary: an installed one needs no file beside it.
const LEPTOS_TOML: &str = include_str!("../../../Leptos.toml");

/// A file whose name contains the hash of its content never changes.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// Any other file is asked for again; unchanged ones cost a 304.
const ASK_AGAIN: &str = "public, no-cache";

/// The interface as built by cargo-leptos.
#[derive(Clone, Debug)]
pub struct Site {
    /// Options for rendering, file names with hashes included.
    pub options: LeptosOptions,
    /// The folder with the files; `None` when there is no build (tests).
    root: Option<PathBuf>,
}

impl Site {
    /// Finds the built interface: at `configured`, else where cargo-leptos says, beside the executable, one
    /// folder above it, in `../share/kontor`, or below the working directory. Of several builds the one that
    /// fits the executable's list of hashed names counts.
    ///
    /// # Errors
    /// There is no build; the text names the places.
    pub fn find(configured: Option<&Path>) -> Result<Self, crate::AnyError> {
        let options = options()?;
        let beside = std::env::current_exe()?.parent().map(Path::to_path_buf).unwrap_or_default();
        let places: Vec<PathBuf> = match configured {
            Some(root) => vec![root.to_path_buf()],
            None => foreign_variable("LEPTOS_SITE_ROOT")
                .map(PathBuf::from)
                .into_iter()
                .chain([beside.join("site"), beside.join("../site"), beside.join("../share/kontor/site"), PathBuf::from("target/site")])
                .collect(),
        };
        let hash_file = beside.join(&*options.hash_file);
        let hashed = std::fs::read_to_string(&hash_file).ok().as_deref().and_then(script_hash);
        let names = [hashed.map(|hash| format!("{}.{hash}.js", options.output_name)), Some(format!("{}.js", options.output_name))];
        for (place, name) in names.iter().flatten().flat_map(|name| places.iter().map(move |place| (place, name))) {
            if place.join(&*options.site_pkg_dir).join(name).is_file() {
                let hash_files = *name != format!("{}.js", options.output_name);
                return Ok(Self { options: at(options, place, &hash_file, hash_files), root: Some(place.clone()) });
            }
        }
        let tried: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
        Err(format!(
            "the built interface was not found; build it with `cargo leptos build` or set `server.site_root`. Tried: {}",
            tried.join(", ")
        )
        .into())
    }

    /// An interface without files: pages render, but nothing takes them over in the browser. For tests of the
    /// server.
    ///
    /// # Errors
    /// `Leptos.toml` is unreadable.
    pub fn without_files() -> Result<Self, crate::AnyError> {
        let mut options = options()?;
        options.hash_files = false;
        Ok(Self { options, root: None })
    }

    /// Routes for the files of the site: everything in its folder, and nothing else.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn routes(&self) -> std::io::Result<Router> {
        let mut router = Router::new();
        let Some(root) = &self.root else { return Ok(router) };
        for entry in std::fs::read_dir(root)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if entry.file_type()?.is_dir() {
                let files = ServeDir::new(entry.path()).precompressed_br().precompressed_gzip().append_index_html_on_directories(false);
                router = router.nest_service(&format!("/{name}"), files);
            } else if !is_compressed_twin(&name) {
                router = router.route_service(&format!("/{name}"), ServeFile::new(entry.path()).precompressed_br().precompressed_gzip());
            }
        }
        Ok(router.layer(from_fn(cache)))
    }
}

fn options() -> Result<LeptosOptions, crate::AnyError> {
    Ok(leptos::config::get_config_from_str(LEPTOS_TOML)?)
}

fn at(mut options: LeptosOptions, root: &Path, hash_file: &Path, hash_files: bool) -> LeptosOptions {
    options.site_root = root.to_string_lossy().into();
    // Leptos looks beside the executable; an absolute name stays what it is.
    options.hash_file = hash_file.to_string_lossy().into();
    options.hash_files = hash_files;
    options
}

/// The hash of the script's name in cargo-leptos' list of `kind: hash` lines.
fn script_hash(list: &str) -> Option<String> {
    list.lines().find_map(|line| line.trim().strip_prefix("js:").map(|hash| hash.trim().to_owned()))
}

fn is_compressed_twin(name: &str) -> bool {
    name.ends_with(".br") || name.ends_with(".gz")
}

async fn cache(request: Request, next: Next) -> Response {
    let policy = if has_hash(request.uri().path()) { FOR_EVER } else { ASK_AGAIN };
    let mut response = next.run(request).await;
    if response.status() == StatusCode::OK || response.status() == StatusCode::NOT_MODIFIED {
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(policy));
    }
    response
}

/// Whether a file name carries a content hash: `name.<22 characters of base64url>.ext`.
fn has_hash(path: &str) -> bool {
    let parts: Vec<&str> = path.rsplit('/').next().unwrap_or_default().split('.').collect();
    matches!(parts.as_slice(), [_, .., hash, _] if hash.len() >= 16 && hash.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)))
}

#[cfg(test)]
mod tests {
    use super::{has_hash, script_hash};

    #[test]
    fn only_hashed_names_are_kept_for_ever() {
        assert!(has_hash("/pkg/kontor.Y4xTzu2tGqTq6eKYB7mxLA.wasm"));
        assert!(!has_hash("/pkg/kontor.wasm"));
        assert!(!has_hash("/favicon.svg"));
    }

    #[test]
    fn the_list_of_hashes_is_read() {
        assert_eq!(script_hash("css: abc\njs: def\nwasm: ghi\n").as_deref(), Some("def"));
        assert_eq!(script_hash(""), None);
    }
}
