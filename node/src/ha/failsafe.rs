//! Failsafe mode: a leader whose store is away leads on while everybody agrees.
//!
//! The leader asks all members that `/failsafe` names. Whoever agrees promises
//! not to lead for one `ttl`; only members that `/failsafe` names may take the
//! lock. So from the moment the question was sent, and for one `ttl`, nobody
//! can lead who has not promised.
//!
//! Invariant *promise before proof*: a promise is given or refused under the
//! same lock under which this member sets out to lead (`Desk`), so that no
//! member promises and leads at once, whichever comes first.
//!
//! Invariant *whoever may lead is asked*: the question goes to everybody in the
//! map that the store is known to hold and in every map that it may hold.

use std::collections::BTreeMap;
use topology::{GroupView, Lsn, MemberName, MemberRecord, MemberRole, Millis, Versioned};

/// Members by name, with the address of their REST API: `/failsafe`.
pub type Map = BTreeMap<MemberName, String>;

/// What one beat sees of failsafe mode.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Failsafe {
    /// Everybody agreed: this member may lead until then.
    pub proof: Option<Millis>,
    /// When everybody was last asked, with or without success.
    pub asked: Millis,
    /// `/failsafe` was seen and names this member.
    pub is_ready: bool,
    /// This member agreed to somebody else's leading.
    pub promise: Option<Promise>,
}

/// What a leader without a store says of itself, and until when it is heeded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Promise {
    pub to: MemberName,
    pub conn_url: String,
    pub api_url: String,
    pub slots: BTreeMap<String, Lsn>,
    pub until: Millis,
}

/// Why a member does not agree; the text is the answer's body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("failsafe mode is off")]
    Off,
    #[error("Running as a leader")]
    Leads,
    #[error("{0} holds the lock")]
    OtherLeader(MemberName),
}

/// Where promises are given, and where whoever sets out to lead shows up first.
#[derive(Clone, Debug)]
pub struct Desk {
    /// `failsafe_mode`, as last read.
    pub is_on: bool,
    /// This member leads, or has set out to.
    occupied: bool,
    /// Who holds the lock, when the store tells.
    leader: Option<MemberName>,
    promise: Option<Promise>,
}

impl Default for Desk {
    /// Closed until a first look tells what runs here.
    fn default() -> Desk {
        Desk { is_on: false, occupied: true, leader: None, promise: None }
    }
}

impl Desk {
    pub fn with_promise(promise: Option<Promise>) -> Desk {
        Desk { promise, ..Desk::default() }
    }

    /// A leader asks. A promise is not shortened by a later one.
    pub fn accept(&mut self, mut asked: Promise, now: Millis) -> Result<(), Refusal> {
        if !self.is_on {
            return Err(Refusal::Off);
        }
        if self.occupied {
            return Err(Refusal::Leads);
        }
        if let Some(leader) = self.leader.as_ref().filter(|leader| **leader != asked.to) {
            return Err(Refusal::OtherLeader(leader.clone()));
        }
        if let Some(other) = self.promise(now) {
            if other.to != asked.to {
                return Err(Refusal::OtherLeader(other.to.clone()));
            }
            asked.until = asked.until.max(other.until);
        }
        self.promise = Some(asked);
        Ok(())
    }

    /// Sets out to lead, unless somebody else was promised that it does.
    pub fn claim(&mut self, now: Millis) -> bool {
        let free = self.promise(now).is_none();
        self.occupied |= free;
        free
    }

    /// What a beat has seen: does this member lead, and who does else?
    pub fn settle(&mut self, occupied: bool, leader: Option<MemberName>) {
        self.occupied = occupied;
        self.leader = leader;
    }

    pub fn promise(&self, now: Millis) -> Option<&Promise> {
        self.promise.as_ref().filter(|promise| now < promise.until)
    }
}

/// The maps that the store holds or may hold.
#[derive(Clone, Debug, Default)]
pub struct Audience {
    known: Option<Map>,
    /// Sent to the store without an answer.
    unsure: Map,
}

impl Audience {
    /// What the store tells.
    pub fn read(&mut self, view: &GroupView) {
        self.known = view.failsafe.as_ref().map(|map| map.value.clone());
        if self.known.as_ref() == Some(&self.unsure) {
            self.unsure.clear();
        }
    }

    pub fn written(&mut self, map: Map) {
        self.known = Some(map);
        self.unsure.clear();
    }

    pub fn unanswered(&mut self, map: Map) {
        self.unsure.extend(map);
    }

    pub fn known(&self) -> Option<Map> {
        self.known.clone()
    }

    pub fn names(&self, me: &MemberName) -> bool {
        self.known.as_ref().is_some_and(|map| map.contains_key(me))
    }

    /// Everybody who has to agree. One name may have two addresses: both count.
    pub fn others(&self, me: &MemberName) -> Vec<(MemberName, String)> {
        let all = self.known.iter().flatten().chain(&self.unsure);
        let mut others: Vec<_> =
            all.filter(|(name, _)| *name != me).map(|(n, url)| (n.clone(), url.clone())).collect();
        others.sort();
        others.dedup();
        others
    }
}

/// `/failsafe` as a leader writes it: everybody with an API, and itself.
pub fn map_of(me: &MemberName, my_url: &str, view: &GroupView) -> Map {
    let urls = view.members.iter();
    let mut map: Map =
        urls.filter_map(|(name, m)| Some((name.clone(), m.value.api_url.clone()?))).collect();
    map.insert(me.clone(), my_url.to_string());
    map
}

/// A free lock is not free for who has promised: whoever was promised leads.
pub fn inject(view: &mut GroupView, promise: &Promise) {
    if view.leader.is_some() {
        return;
    }
    let unversioned = |value| Versioned { value, revision: 0, lease: 0 };
    view.leader = Some(unversioned(promise.to.clone()));
    view.members.entry(promise.to.clone()).or_insert_with(|| Versioned {
        value: MemberRecord {
            conn_url: Some(promise.conn_url.clone()),
            api_url: Some(promise.api_url.clone()),
            state: "running".into(),
            role: MemberRole::Primary,
            ..MemberRecord::default()
        },
        revision: 0,
        lease: 0,
    });
    if let Some(status) = &mut view.status {
        status.value.slots.extend(promise.slots.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(by: &str, until: u64) -> Promise {
        Promise { to: by.into(), until: Millis(until), ..Promise::default() }
    }

    fn open() -> Desk {
        let mut desk = Desk { is_on: true, ..Desk::default() };
        desk.settle(false, None);
        desk
    }

    #[test]
    fn nobody_promises_before_the_first_look_or_without_the_mode() {
        let mut desk = Desk::default();
        assert_eq!(desk.accept(asked("a", 9), Millis(1)), Err(Refusal::Off));
        desk.is_on = true;
        assert_eq!(desk.accept(asked("a", 9), Millis(1)), Err(Refusal::Leads));
        assert!(desk.promise(Millis(1)).is_none());
    }

    #[test]
    fn a_member_promises_or_leads_whichever_comes_first() {
        let mut promised = open();
        assert_eq!(promised.accept(asked("a", 100), Millis(1)), Ok(()));
        assert!(!promised.claim(Millis(99)));
        assert!(promised.claim(Millis(100)), "a promise ends");
        let mut leads = open();
        assert!(leads.claim(Millis(1)));
        assert_eq!(leads.accept(asked("a", 100), Millis(2)), Err(Refusal::Leads));
    }

    #[test]
    fn two_leaders_are_not_promised_the_same() {
        let mut desk = open();
        desk.accept(asked("a", 100), Millis(1)).unwrap();
        let other = Err(Refusal::OtherLeader("a".into()));
        assert_eq!(desk.accept(asked("b", 200), Millis(2)), other);
        desk.accept(asked("a", 50), Millis(3)).unwrap();
        assert!(desk.promise(Millis(99)).is_some(), "a promise was shortened");
        desk.settle(false, Some("b".into()));
        let other = Err(Refusal::OtherLeader("b".into()));
        assert_eq!(desk.accept(asked("a", 300), Millis(4)), other);
    }

    #[test]
    fn everybody_who_may_lead_is_asked() {
        let (mut audience, me) = (Audience::default(), MemberName::new("me"));
        let map = |names: &[&str]| -> Map {
            names.iter().map(|n| (MemberName::new(*n), format!("http://{n}"))).collect()
        };
        assert!(!audience.names(&me));
        audience.written(map(&["me", "a"]));
        audience.unanswered(map(&["me", "b"]));
        assert!(audience.names(&me));
        let names: Vec<_> = audience.others(&me).into_iter().map(|(n, _)| n.0).collect();
        assert_eq!(names, ["a", "b"]);
        // The store tells what came of it.
        let mut view = GroupView::default();
        view.take("failsafe", r#"{"b":"http://b","me":"http://me"}"#, 7, 0);
        audience.read(&view);
        assert_eq!(audience.others(&me).len(), 1);
    }

    #[test]
    fn whoever_was_promised_to_lead_is_the_leader_of_an_unlocked_group() {
        let mut view = GroupView::default();
        let promise = Promise { conn_url: "postgres://h:1/x".into(), ..asked("a", 9) };
        inject(&mut view, &promise);
        assert_eq!(view.leader_name(), Some(&"a".into()));
        assert_eq!(view.leader_record().unwrap().address(), Some(("h".into(), 1)));
        let mut locked = GroupView::default();
        locked.take("leader", "b", 3, 7);
        inject(&mut locked, &promise);
        assert_eq!(locked.leader_name(), Some(&"b".into()));
    }
}
