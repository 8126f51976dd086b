//! `GET /topology` and `GET /region`: the formation, and this region's place in it.
//!
//! Both are made from this region's store. Other regions are shown as the agent noted
//! them, stale: a request here never waits for another region. The rows of
//! `pg_dist_node` are not asked for either; `matriarchctl topology` does both.

use super::answer::Answer;
use super::call::Call;
use crate::config::Settings;
use axum::http::StatusCode;
use serde_json::json;
use standby::region_document::{Named, region_document};
use standby::scene::{Store, Stores, of_scope, of_stores};
use standby::switch::Site;
use std::collections::BTreeMap;
use topology::graph::{Graph, Scene};
use topology::{Group, Seen};

pub(super) async fn topology(call: Call<'_>) -> Result<Answer, Answer> {
    let copy = call.api.scope_copy().await?;
    let scene = scene(&call.api.context.settings, copy.site(call.api));
    Ok(copy.answer(&Graph::build(&scene).json()))
}

pub(super) async fn region(call: Call<'_>) -> Result<Answer, Answer> {
    let copy = call.api.store_copy().await?;
    let settings = &call.api.context.settings;
    let me = settings.topology.as_ref();
    let me = me.map(|section| Named { region: &section.region, policy: &section.policy });
    match region_document(me, &copy.site(call.api).topology) {
        Some(document) => Ok(copy.answer(&document)),
        None => Err(no_regions(&settings.scope)),
    }
}

fn no_regions(scope: &str) -> Answer {
    let why = format!(
        "scope {scope} has no regions: there is no `topology` section in the configuration \
         and no policy in the store"
    );
    Answer::json(StatusCode::NOT_FOUND, &json!({"error": why}))
}

fn scene(settings: &Settings, site: Site) -> Scene {
    let is_citus = site.groups.keys().any(|group| *group != Group::PLAIN);
    let is_empty = site.groups.is_empty();
    let scene = match &settings.topology {
        Some(section) => {
            let own = Store { topology: &site.topology, groups: &site.groups };
            let stored = site.topology.policy.as_ref().map(|policy| &policy.value);
            let listed = stored.unwrap_or(&section.policy).regions.iter();
            let listed = listed.map(|region| (&region.name, Seen::Unknown));
            let mut stores: BTreeMap<_, _> = listed.collect();
            stores.insert(&section.region, Seen::Known(own));
            of_stores(&Stores(stores), &section.policy.formation, &section.policy)
        }
        None => of_scope(&settings.scope, site.groups),
    };
    // Without Citus there are no rows of `pg_dist_node`.
    let routes = if is_citus || is_empty { Seen::Unknown } else { Seen::Known(Vec::new()) };
    Scene { routes, ..scene }
}
