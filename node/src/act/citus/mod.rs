//! Citus: what is done to the coordinator's metadata and to a new group's database.
//!
//! Which statements and in which order is the citus crate's; this module connects,
//! sends them, and bounds their time. It runs beside the beat, because Citus
//! may hold a statement for long while the lock must still be renewed.

mod in_doubt;
mod pause;
mod round;
mod session;

pub(crate) use in_doubt::{LeadersInStore, resolve_own};
pub(crate) use pause::{HeldGroup, open, release, resume};
pub(crate) use round::{Cut, bring_about};
pub(crate) use session::CitusSession;

use crate::config::{Citus, Settings};
use crate::postgres::Instance;
use citus::statement::Authinfo;
use citus::{Desired, Groups, Statement, Wish};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What every call needs to reach the servers.
#[derive(Clone)]
pub(crate) struct Reach {
    pub(crate) settings: Arc<Settings>,
    pub(crate) instance: Instance,
    pub(crate) own: Citus,
    pub(crate) wish: Wish,
}

impl Reach {
    /// One for each database of the formation: each has rows of its own.
    fn of_each_database(&self) -> Vec<Reach> {
        let within = |name: &String| Reach { own: self.own.in_database(name), ..self.clone() };
        self.own.databases().map(within).collect()
    }

    fn desired(&self, groups: &Groups) -> Desired {
        citus::desired(groups, &BTreeMap::new(), &self.wish)
    }
}

/// Makes the databases and in each the extension (or the stand-in) of a new group.
pub(crate) async fn create_databases(
    settings: &Settings,
    instance: &Instance,
    own: &Citus,
) -> Result<(), String> {
    for name in own.databases() {
        create_database(settings, instance, &own.in_database(name)).await?;
    }
    Ok(())
}

async fn create_database(
    settings: &Settings,
    instance: &Instance,
    own: &Citus,
) -> Result<(), String> {
    let pg = &settings.postgresql;
    if own.database != pg.database {
        let here = instance.local_target(&pg.database, session::APPLICATION);
        let session = CitusSession::open(here, own).await?;
        let name = own.database.clone();
        let there = session.run(&Statement::FindDatabase { name: name.clone() }).await?;
        if there.is_empty() {
            session.run(&Statement::CreateDatabase { name }).await?;
        }
    }
    let here = instance.local_target(&own.database, session::APPLICATION);
    let session = CitusSession::open(here, own).await?;
    if own.stand_in {
        return session.batch(citus::STAND_IN).await;
    }
    session.run(&Statement::CreateExtension).await.map_err(|why| {
        format!("{why}; install the Citus extension for this PostgreSQL on every member")
    })?;
    let login = &pg.superuser;
    let key = |name: &str| login.extra.get(name).map(String::as_str);
    let password = login.password.as_ref().map(|password| password.0.as_str());
    if let Some(authinfo) = Authinfo::of(password, key("sslcert"), key("sslkey")) {
        session.run(&Statement::SetAuthinfo { authinfo }).await?;
    }
    Ok(())
}
