//! A browser without scripts: it keeps one cookie, reads pages, and sends their forms as they are.

use regex::Regex;
use reqwest::header::{ACCEPT, CONTENT_TYPE, COOKIE, HeaderMap, LOCATION, ORIGIN, SET_COOKIE};
use reqwest::{Client, Method, redirect};

use crate::support::wait::PATIENCE;

/// The first administrator's password.
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// A client that follows nothing by itself and waits for nothing for ever.
pub(crate) fn client() -> Client {
    Client::builder().redirect(redirect::Policy::none()).timeout(PATIENCE).no_proxy().build().unwrap()
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// Where it leads, if it leads elsewhere.
    pub(crate) fn location(&self) -> Option<&str> {
        self.headers.get(LOCATION)?.to_str().ok()
    }
}

/// A browser without scripts.
pub(crate) struct Browser {
    client: Client,
    base: String,
    cookie: Option<String>,
    origin: Option<String>,
}

/// A form as it stands on a page.
#[derive(Clone, Debug)]
pub(crate) struct Form {
    /// Where it is sent to.
    pub(crate) action: String,
    /// What it sends: every control's name and value.
    pub(crate) fields: Vec<(String, String)>,
    /// Names of its password fields.
    passwords: Vec<String>,
}

impl Form {
    /// With this in a field; adds the field if the form has none of this name.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        match self.fields.iter_mut().find(|(known, _)| known == name) {
            Some(field) => value.clone_into(&mut field.1),
            None => self.fields.push((name.to_owned(), value.to_owned())),
        }
        self
    }

    /// With this in every password field.
    pub(crate) fn password(mut self, password: &str) -> Self {
        assert!(!self.passwords.is_empty(), "the form to {} asks for no password", self.action);
        for name in self.passwords.clone() {
            self = self.with(&name, password);
        }
        self
    }
}

impl Browser {
    /// A browser that is not signed in.
    pub(crate) fn new(base: &str) -> Self {
        Self { client: client(), base: base.to_owned(), cookie: None, origin: Some(base.to_owned()) }
    }

    /// The same browser, showing a page from elsewhere.
    pub(crate) fn elsewhere(&self, origin: &str) -> Self {
        Self {
            client: self.client.clone(),
            cookie: self.cookie.clone(),
            origin: Some(origin.to_owned()),
            base: self.base.clone(),
        }
    }

    /// The same browser at another node: there it sends the same cookie, as behind one name.
    pub(crate) fn at(&self, base: &str) -> Self {
        let origin = Some(base.to_owned());
        Self { client: self.client.clone(), base: base.to_owned(), cookie: self.cookie.clone(), origin }
    }

    /// Its cookie, as it is sent.
    pub(crate) fn cookie(&self) -> &str {
        self.cookie.as_deref().expect("a browser that is signed in")
    }

    async fn send(&mut self, method: Method, path: &str, body: Option<String>) -> Answer {
        let mut request = self.client.request(method, format!("{}{path}", self.base)).header(ACCEPT, "text/html");
        if let Some(cookie) = &self.cookie {
            request = request.header(COOKIE, cookie);
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body);
            if let Some(origin) = &self.origin {
                let site = if *origin == self.base { "same-origin" } else { "cross-site" };
                request = request.header(ORIGIN, origin).header("sec-fetch-site", site);
            }
        }
        let answer = request.send().await.unwrap_or_else(|error| panic!("{path}: {error:?}"));
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        for set in headers.get_all(SET_COOKIE) {
            let pair = set.to_str().unwrap().split(';').next().unwrap();
            let (_, value) = pair.split_once('=').expect("name=value");
            self.cookie = (!value.is_empty()).then(|| pair.to_owned());
        }
        let text = answer.text().await.unwrap_or_else(|error| panic!("{path}: {error:?}"));
        Answer { status, headers, text }
    }

    /// Asks for a page and takes it as it comes.
    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    /// Asks for a page that must be there, following at most three redirections.
    pub(crate) async fn page(&mut self, path: &str) -> String {
        let mut path = path.to_owned();
        for _ in 0..4 {
            let answer = self.get(&path).await;
            match answer.location() {
                Some(location) if (300..400).contains(&answer.status) => location.clone_into(&mut path),
                _ => {
                    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
                    return answer.text;
                }
            }
        }
        panic!("{path} leads round and round");
    }

    /// Sends fields.
    pub(crate) async fn post(&mut self, path: &str, fields: &[(String, String)]) -> Answer {
        let body = fields
            .iter()
            .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
            .collect::<Vec<_>>()
            .join("&");
        self.send(Method::POST, path, Some(body)).await
    }

    /// Sends a form.
    pub(crate) async fn submit(&mut self, form: &Form) -> Answer {
        self.post(&form.action, &form.fields).await
    }

    /// Presses the button that sends to `path`, on a page that must have it.
    pub(crate) async fn press(&mut self, page: &str, path: &str) -> Answer {
        let html = self.page(page).await;
        let form = button(&html, path).unwrap_or_else(|| panic!("{page} has no button to {path}"));
        self.submit(&form).await
    }

    /// Comes through the set-up link as the administrator `root`.
    pub(crate) async fn set_up(&mut self, link: &str) {
        let html = self.page(link).await;
        let form = form_with_password(&html, link).with("name", "root").password(PASSWORD);
        let answer = self.submit(&form).await;
        assert!((300..400).contains(&answer.status), "set-up: {} {}", answer.status, answer.text);
        assert!(self.cookie.is_some(), "the set-up signs in");
    }

    /// Signs in; gives the answer, which may be a refusal.
    pub(crate) async fn sign_in(&mut self, name: &str, password: &str) -> Answer {
        let html = self.page("/sign-in").await;
        let form = form_with_password(&html, "/sign-in").with("name", name).password(password);
        self.submit(&form).await
    }
}

/// Text as a form sends it.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._*".contains(&byte) {
            out.push(char::from(byte));
        } else {
            use std::fmt::Write as _;
            write!(out, "%{byte:02X}").unwrap();
        }
    }
    out
}

/// Text of an attribute as it is meant.
fn decoded(text: &str) -> String {
    [
        ("&quot;", "\""),
        ("&#34;", "\""),
        ("&#39;", "'"),
        ("&#x27;", "'"),
        ("&lt;", "<"),
        ("&#60;", "<"),
        ("&gt;", ">"),
        ("&#62;", ">"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (written, meant)| text.replace(written, meant))
    .replace("&#38;", "&")
    .replace("&amp;", "&")
}

/// An attribute of a tag; empty if it stands without a value.
pub(crate) fn attribute(tag: &str, name: &str) -> Option<String> {
    let pattern = format!(r#"(?:^|\s){}(?:="([^"]*)"|(?:\s|/|>|$))"#, regex::escape(name));
    let found = Regex::new(&pattern).unwrap().captures(tag)?;
    Some(found.get(1).map_or_else(String::new, |value| decoded(value.as_str())))
}

/// Every form of a page, with the text between its tags.
fn forms(html: &str) -> Vec<(String, String)> {
    let pattern = Regex::new(r"(?s)<form\b([^>]*)>(.*?)</form>").unwrap();
    pattern.captures_iter(html).map(|found| (found[1].to_owned(), found[2].to_owned())).collect()
}

/// What a form sends.
fn controls(html: &str) -> (Vec<(String, String)>, Vec<String>) {
    let (mut fields, mut passwords) = (Vec::new(), Vec::new());
    for found in Regex::new(r"<input\b([^>]*)>").unwrap().captures_iter(html) {
        let tag = &found[1];
        let Some(name) = attribute(tag, "name") else { continue };
        let kind = attribute(tag, "type").unwrap_or_default();
        if matches!(kind.as_str(), "submit" | "button")
            || (matches!(kind.as_str(), "checkbox" | "radio") && attribute(tag, "checked").is_none())
        {
            continue;
        }
        if kind == "password" {
            passwords.push(name.clone());
        }
        fields.push((name, attribute(tag, "value").unwrap_or_default()));
    }
    (fields, passwords)
}

/// The form of a page that asks for a password.
pub(crate) fn form_with_password(html: &str, path: &str) -> Form {
    for (tag, inside) in forms(html) {
        let (fields, passwords) = controls(&inside);
        if !passwords.is_empty() {
            let action =
                attribute(&tag, "action").filter(|action| !action.is_empty()).unwrap_or_else(|| path.to_owned());
            return Form { action, fields, passwords };
        }
    }
    panic!("{path} asks for no password:\n{html}");
}

/// The form of a page that has a field of this name.
pub(crate) fn form_with_field(html: &str, path: &str, field: &str) -> Form {
    for (tag, inside) in forms(html) {
        let (fields, passwords) = controls(&inside);
        if fields.iter().any(|(name, _)| name == field) {
            let action =
                attribute(&tag, "action").filter(|action| !action.is_empty()).unwrap_or_else(|| path.to_owned());
            return Form { action, fields, passwords };
        }
    }
    panic!("{path} has no form with the field {field}:\n{html}");
}

/// The form a button sends: its own, or the one it names; with the button's name and value.
pub(crate) fn button(html: &str, path: &str) -> Option<Form> {
    let buttons = Regex::new(r"<button\b([^>]*)>").unwrap();
    for found in buttons.captures_iter(html) {
        let tag = &found[1];
        if attribute(tag, "formaction").as_deref() != Some(path) {
            continue;
        }
        assert!(attribute(tag, "disabled").is_none(), "the button to {path} is disabled");
        let named = attribute(tag, "form");
        let (_, inside) = forms(html).into_iter().find(|(form, inside)| match &named {
            Some(id) => attribute(form, "id").as_ref() == Some(id),
            None => inside.contains(&found[0]),
        })?;
        let (mut fields, passwords) = controls(&inside);
        if let Some(name) = attribute(tag, "name") {
            fields.push((name, attribute(tag, "value").unwrap_or_default()));
        }
        return Some(Form { action: path.to_owned(), fields, passwords });
    }
    // a form of its own
    let (tag, inside) = forms(html).into_iter().find(|(tag, _)| attribute(tag, "action").as_deref() == Some(path))?;
    let (fields, passwords) = controls(&inside);
    Some(Form { action: attribute(&tag, "action")?, fields, passwords })
}

#[test]
fn forms_are_read_as_a_browser_reads_them() {
    let html = r#"<form id="act" method="post"><input type="hidden" name="token" value="a&amp;b"></form>
        <button form="act" name="after" value="7" formaction="/dispatchers/x/run">Run</button>
        <form action="/sign-in" method="post"><input name="name" required><input type="password" name="password"></form>"#;
    let run = button(html, "/dispatchers/x/run").unwrap();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(run.fields, [pair("token", "a&b"), pair("after", "7")]);
    let sign_in = form_with_password(html, "/elsewhere").password("p").with("name", "n");
    assert_eq!(
        (sign_in.action.as_str(), &sign_in.fields[..]),
        ("/sign-in", &[pair("name", "n"), pair("password", "p")][..])
    );
    assert_eq!(encoded("a b&ü"), "a%20b%26%C3%BC");
}
