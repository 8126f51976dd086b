//! Why files below a data directory may be removed, renamed or rewound.
//!
//! Invariant *no destruction*: every function that does it demands a `Permission`.
//! It names the rule that decided it and the good source of the data that comes
//! instead; the functions here are the only ones that make one.
//!
//! Absent on purpose: deciding. The rows of `ha/` do that.

use super::error::Error;
use super::fill_mark::FillMark;
use super::session::Session;
use std::fmt;
use topology::SystemId;

#[derive(Clone, Debug)]
pub struct Permission {
    granted_by: GrantedBy,
    source: GoodSource,
}

/// The rule of `ha/`, and the setting or the request that it goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
enum GrantedBy {
    /// Rules 25, 406 and 605.
    Reinitialize,
    /// Rule 651.
    RemoveOnDiverged,
    /// Rule 650.
    UsePgRewind,
    /// Rules 205, 500, 505 and 507: no store knows this cluster.
    GivenUpBootstrap,
    /// Rules 511 to 513, 530 and 531: begun by this member's daemon in an empty
    /// directory, or with one of the permissions above.
    OwnHalf(String),
}

#[derive(Clone, Debug)]
enum GoodSource {
    Proven(ProvenSource),
    /// Only this daemon has put anything there.
    OwnWork,
}

/// Proof that a server answered a moment ago and is of the group's system.
#[derive(Clone, Debug)]
pub struct ProvenSource {
    address: String,
}

impl ProvenSource {
    /// `address`: of the server behind `session`.
    pub async fn ask(
        session: &Session,
        address: String,
        ours: &SystemId,
    ) -> Result<ProvenSource, Error> {
        const SQL: &str =
            "SELECT system_identifier::pg_catalog.text FROM pg_catalog.pg_control_system()";
        let row = session.row("system id", SQL, &[]).await?;
        let unclear = |_| Error::Answer { what: "system id", field: "system_identifier" };
        let theirs: String = row.try_get(0).map_err(unclear)?;
        if ours.0 == theirs {
            return Ok(ProvenSource { address });
        }
        Err(Error::OtherSystem { address, theirs, ours: ours.0.clone() })
    }

    #[cfg(test)]
    pub fn of_test() -> ProvenSource {
        ProvenSource { address: "test:1".into() }
    }
}

impl Permission {
    /// An operator asked for it (`reinitialize`).
    pub fn asked(source: ProvenSource) -> Permission {
        let granted_by = GrantedBy::Reinitialize;
        Permission { granted_by, source: GoodSource::Proven(source) }
    }

    /// `remove_data_directory_on_diverged_timelines` or `..._on_rewind_failure`.
    pub fn by_setting(source: ProvenSource) -> Permission {
        let granted_by = GrantedBy::RemoveOnDiverged;
        Permission { granted_by, source: GoodSource::Proven(source) }
    }

    pub fn to_rewind(source: ProvenSource) -> Permission {
        let granted_by = GrantedBy::UsePgRewind;
        Permission { granted_by, source: GoodSource::Proven(source) }
    }

    /// The new cluster of this daemon did not come to be.
    pub fn given_up() -> Permission {
        let granted_by = GrantedBy::GivenUpBootstrap;
        Permission { granted_by, source: GoodSource::OwnWork }
    }

    /// Of what the mark lists.
    pub fn own_half(mark: &FillMark) -> Permission {
        let granted_by = GrantedBy::OwnHalf(mark.what.clone());
        Permission { granted_by, source: GoodSource::OwnWork }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.granted_by {
            GrantedBy::Reinitialize => f.write_str("an operator asked for reinitialize")?,
            GrantedBy::RemoveOnDiverged => {
                f.write_str(
                    "remove_data_directory_on_diverged_timelines or \
                             remove_data_directory_on_rewind_failure permits it",
                )?;
            }
            GrantedBy::UsePgRewind => f.write_str("use_pg_rewind permits it")?,
            GrantedBy::GivenUpBootstrap => f.write_str("a new cluster was given up")?,
            GrantedBy::OwnHalf(what) => write!(f, "this daemon has begun it ({what})")?,
        }
        match &self.source {
            GoodSource::Proven(source) => write!(f, "; {} has the data", source.address),
            GoodSource::OwnWork => Ok(()),
        }
    }
}
