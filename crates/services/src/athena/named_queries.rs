//! Named queries: texts that are kept.

use super::documents::{self, Changed, NAMED};
use super::error::{invalid, missing};
use super::{AthenaService, executions, model, workgroups};
use alluvium_base::Region;
use alluvium_query::STATEMENT_MAX_BYTES;
use alluvium_store::records::{Key, Operation, Precondition};
use alluvium_wire::{Call, Problem};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Named {
    id: Uuid,
    name: String,
    #[serde(default)]
    description: Option<String>,
    database: String,
    query: String,
    work_group: String,
    #[serde(default)]
    token: Option<String>,
}

fn key(region: &Region, id: Uuid) -> Key {
    Key::new(NAMED, format!("{region}/{id}"))
}

fn check(name: &str, query: &str) -> Result<(), Problem> {
    if !(1..=128).contains(&name.chars().count()) {
        return Err(invalid("Name must have 1 to 128 characters"));
    }
    if query.is_empty() || query.len() > STATEMENT_MAX_BYTES {
        return Err(invalid(format!("QueryString must have 1 to {STATEMENT_MAX_BYTES} bytes")));
    }
    Ok(())
}

fn shown(named: &Named) -> Value {
    let mut shown = json!({
        "Name": named.name,
        "Database": named.database,
        "QueryString": named.query,
        "NamedQueryId": named.id,
        "WorkGroup": named.work_group,
    });
    if let Some(description) = &named.description {
        shown["Description"] = description.clone().into();
    }
    shown
}

async fn find(service: &AthenaService, region: &Region, id: &str) -> Result<(u64, Named), Problem> {
    let absent = || missing("NamedQuery", id);
    let uuid: Uuid = id.parse().map_err(|_| absent())?;
    documents::get(&*service.parts.records, &key(region, uuid)).await?.ok_or_else(absent)
}

pub(super) async fn create(service: &AthenaService, call: &Call) -> Result<Value, Problem> {
    let input: model::CreateNamedQuery = service.input(call)?;
    check(&input.name, &input.query_string)?;
    let group = input.work_group.unwrap_or_else(|| workgroups::PRIMARY.into());
    workgroups::find(service, &call.region, &group).await?;
    // The id follows from the token, so a repeated call finds what the first one made.
    let id = match &input.client_request_token {
        Some(token) => {
            use sha2::Digest as _;
            let hash = sha2::Sha256::digest(format!("{}/{token}", call.region));
            let mut bytes = [0u8; 16];
            bytes.copy_from_slice(&hash[..16]);
            uuid::Builder::from_random_bytes(bytes).into_uuid()
        }
        None => service.parts.random.uuid(),
    };
    let named = Named {
        id,
        name: input.name,
        description: input.description,
        database: input.database,
        query: input.query_string,
        work_group: group,
        token: input.client_request_token,
    };
    let key = key(&call.region, id);
    let operations = vec![Operation::Put(key.clone(), documents::body(&named)?)];
    let records = &*service.parts.records;
    let made = documents::change(records, vec![Precondition::Absent(key)], operations).await?;
    if let Changed::Conflict = made {
        let (_, known) = find(service, &call.region, &id.to_string()).await?;
        if known.query != named.query || known.name != named.name {
            return Err(invalid("Idempotent parameters do not match"));
        }
    }
    Ok(json!({ "NamedQueryId": id }))
}

pub(super) async fn get(service: &AthenaService, call: &Call) -> Result<Value, Problem> {
    let input: model::OneNamedQuery = service.input(call)?;
    let (_, named) = find(service, &call.region, &input.named_query_id).await?;
    Ok(json!({ "NamedQuery": shown(&named) }))
}

pub(super) async fn batch_get(service: &AthenaService, call: &Call) -> Result<Value, Problem> {
    let input: model::ManyNamedQueries = service.input(call)?;
    if input.named_query_ids.is_empty() || input.named_query_ids.len() > 50 {
        return Err(invalid("NamedQueryIds must have 1 to 50 entries"));
    }
    let (mut found, mut unprocessed) = (Vec::new(), Vec::new());
    for id in input.named_query_ids {
        match find(service, &call.region, &id).await {
            Ok((_, named)) => found.push(shown(&named)),
            Err(problem) => unprocessed.push(json!({
                "NamedQueryId": id, "ErrorCode": "INVALID_INPUT", "ErrorMessage": problem.message,
            })),
        }
    }
    Ok(json!({ "NamedQueries": found, "UnprocessedNamedQueryIds": unprocessed }))
}

pub(super) async fn list(service: &AthenaService, call: &Call) -> Result<Value, Problem> {
    let input: model::Listing = service.input(call)?;
    let limit = executions::limit(input.max_results, 50)?;
    let group = input.work_group.unwrap_or_else(|| workgroups::PRIMARY.into());
    workgroups::find(service, &call.region, &group).await?;
    let prefix = format!("{}/", call.region);
    let mut after = input.next_token.map(|token| format!("{prefix}{token}"));
    let mut ids = Vec::new();
    // Queries of other groups lie between: a page may take several reads.
    loop {
        let records = &*service.parts.records;
        let room = limit - ids.len();
        let (found, next) = documents::page(records, NAMED, prefix.clone(), after, room).await?;
        for document in &found {
            let named: Named = documents::parse(document)?;
            if named.work_group == group {
                ids.push(named.id);
            }
        }
        after = next;
        if after.is_none() || ids.len() >= limit {
            break;
        }
    }
    let mut answer = json!({ "NamedQueryIds": ids });
    if let Some(next) = after {
        answer["NextToken"] = next.strip_prefix(&prefix).unwrap_or_default().into();
    }
    Ok(answer)
}

pub(super) async fn update(service: &AthenaService, call: &Call) -> Result<Value, Problem> {
    let input: model::UpdateNamedQuery = service.input(call)?;
    check(&input.name, &input.query_string)?;
    let (_, mut named) = find(service, &call.region, &input.named_query_id).await?;
    named.name = input.name;
    named.query = input.query_string;
    if input.description.is_some() {
        named.description = input.description;
    }
    let key = key(&call.region, named.id);
    let operations = vec![Operation::Put(key.clone(), documents::body(&named)?)];
    let preconditions = vec![Precondition::Present(key)];
    match documents::change(&*service.parts.records, preconditions, operations).await? {
        Changed::Done => Ok(json!({})),
        Changed::Conflict => Err(missing("NamedQuery", &input.named_query_id)),
    }
}

pub(super) async fn delete(service: &AthenaService, call: &Call) -> Result<Value, Problem> {
    let input: model::OneNamedQuery = service.input(call)?;
    let (_, named) = find(service, &call.region, &input.named_query_id).await?;
    let operations = vec![Operation::Delete(key(&call.region, named.id))];
    documents::change(&*service.parts.records, Vec::new(), operations).await?;
    Ok(json!({}))
}
