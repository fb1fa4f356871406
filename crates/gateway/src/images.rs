//! Pictures as clients write them. What is named in a request is never fetched: it would be the server that looks behind
//! its own walls for whoever asks. So pictures come in the request, and are checked before anything of them goes on.

use crate::failure::Failure;
use base64::{Engine, engine::general_purpose::STANDARD};
use inference::{ChatMessage, Detail, Image};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};
use std::fmt;
use utoipa::ToSchema;

/// Bytes of one, which is what Anthropic takes.
const LARGEST: usize = 5 * 1024 * 1024;
/// In one request; for more Anthropic takes smaller ones alone.
const MOST: usize = 20;
/// The code of a part that a model does not take.
pub const UNSUPPORTED: &str = "unsupported_content";

/// What is behind `image_url` in a chat: the address, alone or with what belongs to it.
#[derive(Debug, ToSchema)]
#[schema(as = ChatImageUrl)]
pub struct ImageUrl {
    /// A data URL: `data:image/png;base64,…`. PNG, JPEG, WebP or GIF of up to 5 MiB.
    url: String,
    /// `auto`, `low`, `high` or `original`.
    detail: Option<String>,
}

/// What is behind `source` in a block.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AnthropicImageSource)]
pub struct Source {
    /// `base64`.
    #[serde(rename = "type")]
    kind: String,
    /// `image/png`, `image/jpeg`, `image/webp` or `image/gif`.
    media_type: Option<String>,
    /// Up to 5 MiB.
    data: Option<String>,
}

/// Takes the pictures of one request.
#[derive(Debug, Default)]
pub struct Images {
    taken: usize,
}

impl Images {
    /// The picture of a part of a chat's message. `path` is the part's.
    ///
    /// # Errors
    /// It is none that is taken, with the path of what is wrong.
    pub fn of_part(&mut self, path: &str, image: Option<ImageUrl>) -> Result<Image, Failure> {
        let Some(ImageUrl { url, detail }) = image else {
            return Err(Failure::invalid(format!("{path}.image_url"), None, "This part has no image_url."));
        };
        let detail = detail_of(&format!("{path}.image_url.detail"), detail)?;
        let image = self.of_url(path, format!("{path}.image_url.url"), url)?;
        Ok(Image { detail, ..image })
    }

    /// The picture of a part of a response's input.
    ///
    /// # Errors
    /// As [`Images::of_part`].
    pub fn of_input(&mut self, path: &str, url: Option<String>, detail: Option<String>) -> Result<Image, Failure> {
        let param = format!("{path}.image_url");
        let Some(url) = url else {
            return Err(Failure::invalid(param, None, "This part has no image_url: images are taken as data URLs, and no files."));
        };
        let detail = detail_of(&format!("{path}.detail"), detail)?;
        Ok(Image { detail, ..self.of_url(path, param, url)? })
    }

    /// The picture of a block.
    ///
    /// # Errors
    /// As [`Images::of_part`].
    pub fn of_source(&mut self, path: &str, source: Option<Source>) -> Result<Image, Failure> {
        let param = format!("{path}.source");
        match source {
            Some(Source { kind, media_type: Some(media_type), data: Some(data) }) if kind == "base64" => {
                self.checked(path, &format!("{param}.data"), &media_type, data)
            }
            Some(Source { kind, .. }) if kind != "base64" => {
                let message = "Images are taken as source of the type base64 alone: nothing is fetched from anywhere.";
                Err(Failure::invalid(format!("{param}.type"), "invalid_image_url", message))
            }
            _ => Err(Failure::invalid(param, None, "An image has a source with type, media_type and data.")),
        }
    }

    fn of_url(&mut self, path: &str, param: String, mut url: String) -> Result<Image, Failure> {
        let data = url.get(..5).filter(|scheme| scheme.eq_ignore_ascii_case("data:")).and_then(|_| url.get(5..));
        let Some((head, data)) = data.and_then(|data| data.split_once(',')) else {
            let message = "Images are taken as data URLs alone (data:image/png;base64,…): nothing is fetched from anywhere.";
            return Err(Failure::invalid(param, "invalid_image_url", message));
        };
        let Some(media_type) = head.strip_suffix(";base64") else {
            return Err(Failure::invalid(param, "invalid_image_url", "The data URL of an image is in base64: data:image/png;base64,…."));
        };
        // Parameters say nothing about a picture.
        let media_type = media_type.split(';').next().unwrap_or_default().to_owned();
        // In place: these are megabytes.
        let before = url.len() - data.len();
        url.drain(..before);
        self.checked(path, &param, &media_type, url)
    }

    fn checked(&mut self, path: &str, param: &str, media_type: &str, data: String) -> Result<Image, Failure> {
        let refused = |code: &'static str, message: String| Err(Failure::invalid(param, code, message));
        if self.taken == MOST {
            return refused("too_many_images", format!("A request may have at most {MOST} images."));
        }
        let media_type = match media_type.to_ascii_lowercase().as_str() {
            "image/png" => "image/png",
            "image/jpeg" | "image/jpg" => "image/jpeg",
            "image/webp" => "image/webp",
            "image/gif" => "image/gif",
            _ => {
                let message = "Images are taken as image/png, image/jpeg, image/webp and image/gif.";
                return refused("unsupported_image_media_type", message.into());
            }
        };
        // Four characters stand for three bytes; the last ones for fewer.
        if data.len() / 4 * 3 > LARGEST + 2 {
            return refused("image_file_too_large", format!("An image may have at most {} MiB.", LARGEST >> 20));
        }
        let Ok(bytes) = STANDARD.decode(&data) else {
            return refused("invalid_base64_image", "This is no base64, with its padding and without line breaks.".into());
        };
        if bytes.len() > LARGEST {
            return refused("image_file_too_large", format!("An image may have at most {} MiB.", LARGEST >> 20));
        }
        if kind_of(&bytes) != Some(media_type) {
            return refused("invalid_image_format", format!("The data does not begin as {media_type} does."));
        }
        self.taken += 1;
        Ok(Image { media_type: media_type.into(), data, detail: None, path: path.into() })
    }
}

/// What a picture is by its first bytes.
fn kind_of(bytes: &[u8]) -> Option<&'static str> {
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        Some("image/png")
    } else if bytes.starts_with(b"\xff\xd8\xff") {
        Some("image/jpeg")
    } else if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") {
        Some("image/gif")
    } else if bytes.starts_with(b"RIFF") && bytes.get(8..).is_some_and(|rest| rest.starts_with(b"WEBP")) {
        Some("image/webp")
    } else {
        None
    }
}

fn detail_of(param: &str, detail: Option<String>) -> Result<Option<Detail>, Failure> {
    match detail.as_deref() {
        None => Ok(None),
        Some("auto") => Ok(Some(Detail::Auto)),
        Some("low") => Ok(Some(Detail::Low)),
        Some("high") => Ok(Some(Detail::High)),
        Some("original") => Ok(Some(Detail::Original)),
        Some(_) => Err(Failure::invalid(param, None, "detail is auto, low, high or original.")),
    }
}

/// The refusal of a picture in a message of somebody who shows none.
pub fn misplaced(path: impl Into<String>) -> Failure {
    Failure::invalid(path, UNSUPPORTED, "Images are taken in messages of the user alone.")
}

/// Where a conversation's first picture is written.
pub fn first(messages: &[ChatMessage]) -> Option<String> {
    messages.iter().flat_map(ChatMessage::images).next().map(|image| image.path.clone())
}

/// The same failure with the place of the picture that it is about. What refuses it knows conversations and no paths.
pub fn located(mut failure: Failure, image: Option<String>) -> Failure {
    // Where the filter of whoever runs the model refuses, that is about the request and nobody knows which part of it.
    let names_a_field = failure.body.param.is_some();
    let about_images = names_a_field && matches!(failure.body.code.as_deref(), Some(UNSUPPORTED | "content_filter"));
    // A picture of an earlier response was written in no field of this request.
    if let Some(path) = image.filter(|path| about_images && !path.is_empty()) {
        failure.body.param = Some(path);
    }
    failure
}

impl<'de> Deserialize<'de> for ImageUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = ImageUrl;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with a url")
            }

            // Some clients leave the object out. To refuse the text would quote it, picture and all.
            fn visit_str<E: de::Error>(self, url: &str) -> Result<ImageUrl, E> {
                Ok(ImageUrl { url: url.to_owned(), detail: None })
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<ImageUrl, A::Error> {
                #[derive(Deserialize)]
                struct Fields {
                    url: String,
                    detail: Option<String>,
                }
                let Fields { url, detail } = Fields::deserialize(MapAccessDeserializer::new(fields))?;
                Ok(ImageUrl { url, detail })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
pub mod tests {
    use super::{Images, LARGEST, MOST, Source};
    use base64::{Engine, engine::general_purpose::STANDARD};
    use inference::Detail;
    use serde_json::{Value, json};

    /// A PNG's first bytes, and as many more as it takes.
    pub fn png(bytes: usize) -> String {
        let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
        png.resize(bytes.max(png.len()), 0);
        STANDARD.encode(png)
    }

    fn url(url: &str) -> Result<(String, String), String> {
        let image = Images::default().of_input("p", Some(url.into()), None).map_err(|failure| failure.event())?;
        Ok((image.media_type, image.data))
    }

    #[test]
    fn pictures_are_what_they_say() {
        let samples: [(&str, &[u8]); 5] = [
            ("image/png", b"\x89PNG\r\n\x1a\n...."),
            ("image/jpeg", b"\xff\xd8\xff\xe0...."),
            ("image/gif", b"GIF87a...."),
            ("image/gif", b"GIF89a...."),
            ("image/webp", b"RIFF\x04\0\0\0WEBP"),
        ];
        for (kind, bytes) in samples {
            let data = STANDARD.encode(bytes);
            assert_eq!(url(&format!("data:{kind};base64,{data}")).unwrap(), (kind.to_owned(), data.clone()));
            for (other, _) in samples.iter().filter(|(other, _)| *other != kind) {
                let refused = url(&format!("data:{other};base64,{data}")).unwrap_err();
                assert!(refused.contains("invalid_image_format"), "{kind} as {other}: {refused}");
            }
        }
        let jpeg = STANDARD.encode(b"\xff\xd8\xff\xe0");
        assert_eq!(url(&format!("DATA:image/JPG;name=x;base64,{jpeg}")).unwrap().0, "image/jpeg");
    }

    #[test]
    fn nothing_is_fetched() {
        for address in ["https://example.org/a.png", "http://169.254.169.254/latest", "file:///etc/passwd", "", "data:", "ädata:,"] {
            let refused = url(address).unwrap_err();
            assert!(refused.contains("invalid_image_url") && refused.contains(r#""param":"p.image_url""#), "{address}: {refused}");
        }
        assert!(url("data:image/png,raw").unwrap_err().contains("invalid_image_url"));
    }

    #[test]
    fn what_is_no_picture_is_refused_with_its_path() {
        for (address, code) in [
            ("data:image/svg+xml;base64,PHN2Zy8+", "unsupported_image_media_type"),
            ("data:application/pdf;base64,JVBERi0=", "unsupported_image_media_type"),
            ("data:image/png;base64,iVBORw0KGgo", "invalid_base64_image"),
            ("data:image/png;base64,iVBO Rw0KGgo=", "invalid_base64_image"),
            ("data:image/png;base64,", "invalid_image_format"),
        ] {
            let refused = url(address).unwrap_err();
            assert!(refused.contains(code) && refused.contains(r#""param":"p.image_url""#), "{address}: {refused}");
            assert!(!refused.contains("iVBO"), "a refusal does not repeat the picture: {refused}");
        }
    }

    #[test]
    fn size_and_number_are_bounded() {
        url(&format!("data:image/png;base64,{}", png(LARGEST))).unwrap();
        for bytes in [LARGEST + 1, LARGEST + 2, LARGEST + 3, LARGEST + 100] {
            assert!(url(&format!("data:image/png;base64,{}", png(bytes))).unwrap_err().contains("image_file_too_large"), "{bytes}");
        }
        let mut images = Images::default();
        let small = format!("data:image/png;base64,{}", png(8));
        for at in 0..MOST {
            images.of_input(&format!("p[{at}]"), Some(small.clone()), None).unwrap();
        }
        let refused = images.of_input("p[20]", Some(small), None).unwrap_err().event();
        assert!(refused.contains("too_many_images") && refused.contains("p[20].image_url"), "{refused}");
    }

    #[test]
    fn an_address_stands_alone_or_with_a_detail() {
        let read = |value: Value| {
            let url = serde_json::from_value(value).map_err(|error| error.to_string())?;
            Images::default().of_part("p", Some(url)).map_err(|failure| failure.event())
        };
        let address = format!("data:image/png;base64,{}", png(8));
        assert_eq!(read(json!(address)).unwrap().detail, None);
        let image = read(json!({ "url": address, "detail": "high" })).unwrap();
        assert_eq!((image.detail, image.path.as_str(), image.data), (Some(Detail::High), "p", png(8)));
        assert!(read(json!({ "url": address, "detail": "some" })).unwrap_err().contains("p.image_url.detail"));
        assert!(read(json!({ "detail": "low" })).unwrap_err().contains("url"));
        assert!(Images::default().of_part("p", None).unwrap_err().event().contains("p.image_url"));
    }

    #[test]
    fn a_source_is_in_base64() {
        let read = |value: Value| {
            let source: Source = serde_json::from_value(value).unwrap();
            Images::default().of_source("p", Some(source)).map_err(|failure| failure.event())
        };
        let image = read(json!({ "type": "base64", "media_type": "image/png", "data": png(8) })).unwrap();
        assert_eq!((image.media_type.as_str(), image.data), ("image/png", png(8)));
        let fetched = read(json!({ "type": "url", "url": "https://example.org/a.png" })).unwrap_err();
        assert!(fetched.contains("invalid_image_url") && fetched.contains("p.source.type"), "{fetched}");
        assert!(read(json!({ "type": "base64", "data": png(8) })).unwrap_err().contains(r#""param":"p.source""#));
        let wrong = read(json!({ "type": "base64", "media_type": "image/gif", "data": png(8) })).unwrap_err();
        assert!(wrong.contains("p.source.data") && wrong.contains("invalid_image_format"), "{wrong}");
    }
}
