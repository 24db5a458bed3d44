//! The description of `/api`, made from its routes.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;

use crate::api::route::{Described, Route};
use crate::api::types::ErrorAnswer;
use crate::auth::access::Right;
use crate::config::base_path::BasePath;

/// The document as JSON.
pub(crate) fn document(routes: &[Route], base: &BasePath) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    let mut schemas: BTreeMap<String, Value> = BTreeMap::new();
    add_schema(&mut schemas, &Described::of::<ErrorAnswer>());
    for route in routes {
        add_schema(&mut schemas, &route.answer);
        if let Some((body, _)) = &route.body {
            add_schema(&mut schemas, body);
        }
        let operations = paths.entry(route.template).or_insert_with(|| json!({}));
        operations[route.method.as_str().to_ascii_lowercase()] = operation(route);
    }
    paths.extend(probes());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Switchboard",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What the pages show and do, for scripts. Every successful answer has status 200; every failed \
                            one the shape of ErrorAnswer.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": format!("{base}/")}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {
                    "type": "apiKey", "in": "header", "name": "x-api-key",
                    "description": "The token of a user, as `switchboard user add --token` prints it.",
                },
            },
        },
    })
}

fn operation(route: &Route) -> Value {
    let mut parameters: Vec<Value> = route
        .parameters()
        .into_iter()
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect();
    for parameter in route.query {
        let schema = if parameter.repeats {
            json!({"type": "array", "items": {"type": "string"}})
        } else {
            json!({"type": "string"})
        };
        parameters.push(json!({
            "name": parameter.name, "in": "query", "required": false, "description": parameter.help, "schema": schema,
        }));
    }
    if route.name == "dispatchers:run" {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "1 to 255 visible ASCII characters; asking twice with the same one runs once.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        }));
    }
    let right = match route.right {
        None => "Open to everybody.",
        Some(Right::Look) => "Needs service_admin or admin_viewer.",
        Some(Right::Act) => "Needs service_admin.",
        Some(Right::Metrics) => "Needs any role.",
    };
    let mut operation = json!({
        "operationId": route.name,
        "tags": [route.name.split(':').next().unwrap_or_default()],
        "summary": route.summary,
        "description": right,
        "security": if route.right.is_some() { json!([{"token": []}]) } else { json!([]) },
        "responses": {
            "200": {
                "description": "Done.",
                "content": {"application/json": {"schema": reference(&route.answer)}},
            },
            "default": {
                "description": "Why not.",
                "content": {"application/json": {"schema": reference(&Described::of::<ErrorAnswer>())}},
            },
        },
    });
    if !parameters.is_empty() {
        operation["parameters"] = Value::Array(parameters);
    }
    if let Some((body, required)) = &route.body {
        operation["requestBody"] =
            json!({"required": required, "content": {"application/json": {"schema": reference(body)}}});
    }
    operation
}

/// What is answered beside `/api`, in plain text.
fn probes() -> Map<String, Value> {
    let probe = |id: &str, summary: &str, security: Value| {
        json!({"get": {
            "operationId": id, "tags": ["probes"], "summary": summary, "security": security,
            "responses": {
                "200": {"description": "Well.", "content": {"text/plain": {"schema": {"type": "string"}}}},
                "default": {"description": "Not.", "content": {"text/plain": {"schema": {"type": "string"}}}},
            },
        }})
    };
    let live = probe("probes:live", "Whether the process answers.", json!([]));
    let ready = probe("probes:ready", "Whether the database answers and the node is not stopping.", json!([]));
    let metrics = probe(
        "probes:metrics",
        "Figures for Prometheus; a token, or an address within Web.MetricsNetworks, is needed.",
        json!([{"token": []}, {}]),
    );
    [("/healthz", live), ("/readyz", ready), ("/metrics", metrics)]
        .into_iter()
        .map(|(path, item)| (path.to_owned(), item))
        .collect()
}

fn reference(described: &Described) -> Value {
    json!({"$ref": format!("#/components/schemas/{}", (described.name)())})
}

fn add_schema(schemas: &mut BTreeMap<String, Value>, described: &Described) {
    let mut parts = vec![((described.name)().into_owned(), (described.schema)())];
    (described.parts)(&mut parts);
    for (name, schema) in parts {
        schemas.entry(name).or_insert_with(|| schema_value(&schema));
    }
}

fn schema_value(schema: &RefOr<Schema>) -> Value {
    serde_json::to_value(schema).expect("schemas are made of texts, numbers and lists")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::api::routes::ROUTES;

    #[test]
    fn the_document_lists_exactly_the_table() {
        let document = document(ROUTES, &BasePath::default());
        let mut listed = BTreeSet::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                assert!(operation["responses"]["200"].is_object(), "{method} {path} says what it answers");
                listed.insert(format!("{} {path}", method.to_ascii_uppercase()));
            }
        }
        let mut table: BTreeSet<_> =
            ROUTES.iter().map(|route| format!("{} {}", route.method, route.template)).collect();
        table.extend(["/healthz", "/readyz", "/metrics"].map(|path| format!("GET {path}")));
        assert_eq!(listed, table);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references(value: &Value, found: &mut BTreeSet<String>) {
            match value {
                Value::Object(fields) => {
                    for (name, field) in fields {
                        match field.as_str() {
                            Some(target) if name == "$ref" => {
                                found.insert(target.to_owned());
                            }
                            _ => references(field, found),
                        }
                    }
                }
                Value::Array(items) => items.iter().for_each(|item| references(item, found)),
                _ => {}
            }
        }
        let document = document(ROUTES, &BasePath::default());
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 20, "{found:?}");
        for target in found {
            let pointer = target.strip_prefix('#').unwrap();
            let schema = document.pointer(pointer).unwrap_or_else(|| panic!("{target} leads nowhere"));
            assert!(schema.as_object().is_some_and(|fields| !fields.is_empty()), "{target} says nothing");
        }
    }

    #[test]
    fn every_field_of_every_schema_is_described() {
        let document = document(ROUTES, &BasePath::default());
        for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
            for (field, property) in schema["properties"].as_object().into_iter().flatten() {
                // one that may be null stands as a choice between itself and nothing
                let described = property["description"].is_string() || property["oneOf"][0]["description"].is_string();
                assert!(described || property.get("$ref").is_some(), "{name}.{field}: {property}");
            }
        }
    }
}
