//! How many connections there may be, from which callers, and which one is closed
//! when there is no room.
//!
//! Slow or silent callers must not keep a load balancer's check or a member's
//! request out. Each address has a bounded number of places, some are kept for
//! members, and where one is missing, the connection that has waited longest
//! without a complete request is closed for the new one. A connection whose
//! request is being answered is never closed.
//!
//! Invariant *bounded*: never more than `PLACES_MAX` places are taken.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Connections at the same time. Below the descriptors that a process usually may have (1,024).
const PLACES_MAX: usize = 800;
/// Of these, only for members of the group.
const MEMBERS_PLACES: usize = 80;
/// Connections from one address.
const PER_ADDRESS_MAX: usize = 250;
/// In `Seat::waits_since`: its request is being answered.
const BUSY: u64 = u64::MAX;

pub(crate) struct Places {
    limits: Limits,
    taken: Mutex<Taken>,
    /// Counts events, so that the connection that waits longest is known.
    clock: AtomicU64,
}

#[derive(Clone, Copy)]
struct Limits {
    all: usize,
    members: usize,
    address: usize,
}

#[derive(Default)]
struct Taken {
    seats: HashMap<u64, Arc<Seat>>,
    by_address: HashMap<IpAddr, usize>,
    members: HashSet<IpAddr>,
}

/// One connection's place. It is free again when this is dropped.
pub(crate) struct Place {
    seat: Arc<Seat>,
    places: Arc<Places>,
}

struct Seat {
    number: u64,
    address: IpAddr,
    is_member: bool,
    waits_since: AtomicU64,
    leave: Notify,
}

/// A request is being answered while this lives.
pub(crate) struct Busy(Arc<Place>);

impl Places {
    pub(crate) fn new() -> Arc<Places> {
        let all = PLACES_MAX;
        Places::limited(Limits { all, members: MEMBERS_PLACES, address: PER_ADDRESS_MAX })
    }

    fn limited(limits: Limits) -> Arc<Places> {
        Arc::new(Places { limits, taken: Default::default(), clock: AtomicU64::new(0) })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    /// Whose places are kept free from now on.
    pub(crate) fn set_members(&self, members: HashSet<IpAddr>) {
        self.lock().members = members;
    }

    /// `None`: every connection that could be closed for it is being answered.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let mut taken = self.lock();
        let is_member = taken.members.contains(&address);
        if taken.by_address.get(&address).is_some_and(|count| *count >= self.limits.address) {
            taken.close_longest_waiting(|seat| seat.address == address)?;
        } else if self.is_full(&taken, is_member) {
            taken.close_longest_waiting(|seat| !seat.is_member || is_member)?;
        }
        let number = self.tick();
        let (waits_since, leave) = (AtomicU64::new(number), Notify::new());
        let seat = Arc::new(Seat { number, address, is_member, waits_since, leave });
        taken.seats.insert(number, seat.clone());
        *taken.by_address.entry(address).or_default() += 1;
        Some(Place { seat, places: self.clone() })
    }

    fn is_full(&self, taken: &Taken, is_member: bool) -> bool {
        let Limits { all, members, .. } = self.limits;
        let others = taken.seats.values().filter(|seat| !seat.is_member).count();
        taken.seats.len() >= all || !is_member && others >= all - members
    }
}

impl Taken {
    fn close_longest_waiting(&mut self, may: impl Fn(&Seat) -> bool) -> Option<()> {
        let waiting = self.seats.values().filter(|seat| may(seat));
        let waiting = waiting.map(|seat| (seat.waits_since.load(Ordering::Relaxed), seat.number));
        let (_, number) = waiting.filter(|(since, _)| *since != BUSY).min()?;
        let seat = self.remove(number)?;
        seat.leave.notify_one();
        Some(())
    }

    fn remove(&mut self, number: u64) -> Option<Arc<Seat>> {
        let seat = self.seats.remove(&number)?;
        if let Some(count) = self.by_address.get_mut(&seat.address) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&seat.address);
            }
        }
        Some(seat)
    }
}

impl Place {
    /// Returns when the connection has to make room for another one.
    pub(crate) async fn told_to_leave(&self) {
        self.seat.leave.notified().await;
    }

    pub(crate) fn begin(self: &Arc<Self>) -> Busy {
        self.seat.waits_since.store(BUSY, Ordering::Relaxed);
        Busy(self.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let now = self.0.places.tick();
        self.0.seat.waits_since.store(now, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().remove(self.seat.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn small() -> Arc<Places> {
        let places = Places::limited(Limits { all: 6, members: 2, address: 3 });
        places.set_members(HashSet::from([ip(1), ip(2)]));
        places
    }

    fn has_to_leave(place: &Place) -> bool {
        use std::task::{Context, Poll, Waker};
        let mut told = std::pin::pin!(place.told_to_leave());
        told.as_mut().poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    #[test]
    fn s1_the_longest_waiting_of_an_address_makes_room() {
        let places = small();
        let all: Vec<_> = (0..3).map(|_| Arc::new(places.take(ip(9)).unwrap())).collect();
        drop(all[0].begin());
        let fourth = places.take(ip(9)).unwrap();
        let left: Vec<_> = all.iter().map(|place| has_to_leave(place)).collect();
        assert_eq!(left, [false, true, false], "the first has asked something since");
        drop((all, fourth));
        assert!(places.lock().seats.is_empty() && places.lock().by_address.is_empty());
    }

    #[test]
    fn s1_a_request_that_is_answered_is_never_given_up() {
        let places = small();
        let all: Vec<_> = (0..3).map(|_| Arc::new(places.take(ip(9)).unwrap())).collect();
        let busy: Vec<_> = all.iter().map(Place::begin).collect();
        assert!(places.take(ip(9)).is_none(), "the address has its share");
        let other = Arc::new(places.take(ip(8)).unwrap());
        let answered = other.begin();
        assert!(places.take(ip(7)).is_none(), "the rest is for members");
        assert!(places.take(ip(1)).is_some());
        drop(busy);
        assert!(places.take(ip(7)).is_some(), "one that waits makes room");
        drop(answered);
    }

    #[test]
    fn s1_members_are_not_closed_for_others() {
        let places = small();
        let members: Vec<_> = [1, 1, 2].map(|last| places.take(ip(last)).unwrap()).into();
        let others: Vec<_> = (5..8).map(|last| places.take(ip(last)).unwrap()).collect();
        let one_more = places.take(ip(9)).unwrap();
        assert!(members.iter().all(|place| !has_to_leave(place)));
        assert!(has_to_leave(&others[0]) && !has_to_leave(&others[1]));
        drop(one_more);
    }

    #[test]
    fn an_address_is_the_same_in_both_families() {
        let places = small();
        let mapped = IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0x0a00, 0x0001]);
        assert!(places.take(mapped).unwrap().seat.is_member);
    }
}
