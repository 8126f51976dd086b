//! Answers: a status and a body in one of four shapes.
//!
//! Content types and the short error page are those that other programs of
//! the same kind send; tools print the texts as they are.

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use serde_json::Value;
use topology::document::spaced;

#[derive(Debug)]
pub(crate) struct Answer {
    pub status: StatusCode,
    pub body: Shape,
    /// Beside those that every answer has.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Debug)]
pub(crate) enum Shape {
    /// The status says everything.
    Empty,
    Json(Bytes),
    Text(String),
    Plain(String),
    /// The short page for what a framework would refuse.
    Page(String),
}

impl Answer {
    pub(crate) fn status(status: StatusCode) -> Answer {
        Answer { status, body: Shape::Empty, headers: Vec::new() }
    }

    pub(crate) fn json(status: StatusCode, value: &Value) -> Answer {
        Answer { status, body: Shape::Json(spaced(value).into()), headers: Vec::new() }
    }

    /// A document that is text already.
    pub(crate) fn said(status: StatusCode, text: Bytes) -> Answer {
        Answer { status, body: Shape::Json(text), headers: Vec::new() }
    }

    pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Answer {
        Answer { status, body: Shape::Text(text.into()), headers: Vec::new() }
    }

    pub(crate) fn plain(text: String) -> Answer {
        Answer { status: StatusCode::OK, body: Shape::Plain(text), headers: Vec::new() }
    }

    pub(crate) fn page(status: StatusCode) -> Answer {
        let reason = status.canonical_reason().unwrap_or("Error");
        Answer { status, body: Shape::Page(page_text(status, reason)), headers: Vec::new() }
    }

    /// For a method that this path, or anybody, does not know.
    pub(crate) fn unsupported(method: &Method) -> Answer {
        let status = StatusCode::NOT_IMPLEMENTED;
        let method: String = method.as_str().chars().filter(char::is_ascii_alphanumeric).collect();
        let message = format!("Unsupported method ('{method}')");
        Answer { status, body: Shape::Page(page_text(status, &message)), headers: Vec::new() }
    }

    pub(crate) fn into_response(self, extra: &[(header::HeaderName, HeaderValue)]) -> Response {
        let (kind, text) = match self.body {
            Shape::Empty => (None, Bytes::new()),
            Shape::Json(text) => (Some("application/json"), text),
            Shape::Text(text) => (Some("text/html"), text.into()),
            Shape::Plain(text) => (Some("text/plain"), text.into()),
            Shape::Page(text) => (Some("text/html;charset=utf-8"), text.into()),
        };
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if let Some(kind) = kind {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let realm = HeaderValue::from_static("Basic realm=\"Patroni\"");
            headers.insert(header::WWW_AUTHENTICATE, realm);
        }
        for (name, value) in extra.iter().chain(&self.headers) {
            headers.insert(name.clone(), value.clone());
        }
        response
    }
}

fn page_text(status: StatusCode, message: &str) -> String {
    let code = status.as_u16();
    [
        "<!DOCTYPE HTML>",
        "<html lang=\"en\">",
        "    <head>",
        "        <meta charset=\"utf-8\">",
        "        <title>Error response</title>",
        "    </head>",
        "    <body>",
        "        <h1>Error response</h1>",
        &format!("        <p>Error code: {code}</p>"),
        &format!("        <p>Message: {message}.</p>"),
        "    </body>",
        "</html>",
        "",
    ]
    .join("\n")
}
