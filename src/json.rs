//! Plain data, with the feature `json`. Values as bodies: the only file that names serde and
//! serde_json.
//!
//! In go values of the caller's types, and bodies; out come bodies, and values.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Kind, Phase};
use crate::request::Request;
use crate::response::Response;

impl Request {
    /// A value as JSON (RFC 8259), with the Content-Type `application/json` unless there is one.
    ///
    /// # Errors
    /// [`Kind::InvalidRequest`] for a value that JSON cannot have, as a map whose keys are no
    /// texts.
    ///
    /// ```
    /// # use whippet::Request;
    /// let request = Request::post("http://127.0.0.1:8080/items")?.json(&[("name", 1)])?;
    /// assert_eq!(request.header_value("content-type").unwrap(), b"application/json");
    /// # Ok::<(), whippet::Error>(())
    /// ```
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Result<Self, Error> {
        let bytes = serde_json::to_vec(value).map_err(|error| {
            let what = "the value cannot be said in JSON";
            Error::new(Kind::InvalidRequest, Phase::Request, what).caused_by(Arc::new(error))
        })?;
        Ok(self.body(bytes).or_content_type("application/json"))
    }
}

impl Response {
    /// The body as a value, read as JSON whatever its Content-Type.
    ///
    /// # Errors
    /// [`Kind::Decode`], with what is wrong and where.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(self.body()).map_err(|error| {
            let what = "the body is not the JSON that is wanted";
            Error::new(Kind::Decode, Phase::Body, what).caused_by(Arc::new(error)).lasting()
        })
    }
}
