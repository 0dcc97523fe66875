//! One load a block, however many want it.
//!
//! *Owns*: which blocks are being loaded, and that those who want one of them hear of its end.
//! *Does not own*: loading, keeping.
//!
//! Invariants
//! 1. A key has at most one flight; whoever holds its [`Takeoff`] is the one who loads.
//! 2. A flight that is dropped instead of landed tells its passengers, and the key is free again.
//!
//! *IO: none*

use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tidewater_types::mutant;
use tokio::sync::Notify;

use super::cache::Key;

/// The flights under way, for values of type `V`.
pub(crate) struct Flights<V> {
    under_way: Mutex<FxHashMap<Key, Arc<Flight<V>>>>,
}

/// A watch channel would do, but wakes in an order that differs from run to run.
struct Flight<V> {
    end: Mutex<Option<End<V>>>,
    ended: Notify,
}

#[derive(Clone)]
enum End<V> {
    Landed(V),
    GivenUp,
}

/// What became of a claim on a key.
pub(crate) enum Claim<V> {
    /// It is in memory.
    Ready(V),
    /// Somebody loads it.
    Joined(Passenger<V>),
    /// The caller loads it, and is a passenger of its own flight.
    Mine(Takeoff<V>, Passenger<V>),
}

/// Waits for the end of a flight.
pub(crate) struct Passenger<V>(Arc<Flight<V>>);

/// The duty to load.
pub(crate) struct Takeoff<V> {
    key: Key,
    flight: Arc<Flight<V>>,
    flights: Arc<Flights<V>>,
}

impl<V> Default for Flights<V> {
    fn default() -> Self {
        Self {
            under_way: Mutex::default(),
        }
    }
}

impl<V: Clone> Flights<V> {
    /// Claims `key`. `known` looks into memory: first beside all others, for what is there needs
    /// no flight; then, if it was not, once more while nobody else can claim or land.
    pub(crate) fn claim(self: &Arc<Self>, key: Key, known: impl Fn() -> Option<V>) -> Claim<V> {
        if let Some(value) = known() {
            return Claim::Ready(value);
        }
        let mut under_way = self.under_way.lock();
        if let Some(flight) = under_way.get(&key) {
            return Claim::Joined(Passenger(flight.clone()));
        }
        if let Some(value) = known() {
            return Claim::Ready(value);
        }
        let flight = Arc::new(Flight {
            end: Mutex::new(None),
            ended: Notify::new(),
        });
        under_way.insert(key, Arc::clone(&flight));
        let takeoff = Takeoff {
            key,
            flight: Arc::clone(&flight),
            flights: Arc::clone(self),
        };
        Claim::Mine(takeoff, Passenger(flight))
    }
}

impl<V: Clone> Passenger<V> {
    /// What was landed; `None` if the flight was given up.
    pub(crate) async fn arrive(self) -> Option<V> {
        loop {
            let mut ended = std::pin::pin!(self.0.ended.notified());
            ended.as_mut().enable();
            match self.0.end.lock().clone() {
                Some(End::Landed(value)) => return Some(value),
                Some(End::GivenUp) => return None,
                None => {}
            }
            ended.await;
        }
    }
}

impl<V> Takeoff<V> {
    /// Tells the passengers. What shall be found in memory must be there before.
    pub(crate) fn land(self, value: V) {
        *self.flight.end.lock() = Some(End::Landed(value));
    }
}

impl<V> Drop for Takeoff<V> {
    fn drop(&mut self) {
        self.flights.under_way.lock().remove(&self.key);
        let mut end = self.flight.end.lock();
        if end.is_none() && mutant!(113) {
            return;
        }
        end.get_or_insert(End::GivenUp);
        drop(end);
        self.flight.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object_id::ObjectId;
    use tidewater_types::{Epoch, NodeId};

    fn key(position: u64) -> Key {
        let id = ObjectId {
            node: NodeId(1),
            epoch: Epoch(1),
            counter: 1,
            nonce: 1,
        };
        Key::new(id, position)
    }

    fn mine(claim: Claim<u8>) -> (Takeoff<u8>, Passenger<u8>) {
        match claim {
            Claim::Mine(takeoff, passenger) => (takeoff, passenger),
            Claim::Ready(_) | Claim::Joined(_) => panic!("not mine"),
        }
    }

    #[tokio::test]
    async fn everybody_who_joined_hears_of_the_landing() {
        let flights = Arc::<Flights<u8>>::default();
        let (takeoff, own) = mine(flights.claim(key(1), || None));
        let Claim::Joined(other) = flights.claim(key(1), || None) else {
            panic!("a second flight")
        };
        let _elsewhere = mine(flights.claim(key(2), || None));
        takeoff.land(7);
        assert_eq!(
            (own.arrive().await, other.arrive().await),
            (Some(7), Some(7))
        );
        assert!(matches!(flights.claim(key(1), || Some(7)), Claim::Ready(7)));
    }

    #[tokio::test]
    async fn what_is_in_memory_is_had_while_others_claim_and_land() {
        let flights = Arc::<Flights<u8>>::default();
        let under_way = flights.under_way.lock();
        let claim = flights.claim(key(1), || Some(7));
        assert!(matches!(claim, Claim::Ready(7)));
        drop(under_way);
        // What landed between the two looks is not loaded again.
        let looks = std::cell::Cell::new(0);
        let second_look = || (looks.replace(looks.get() + 1) == 1).then_some(8);
        assert!(matches!(
            flights.claim(key(1), second_look),
            Claim::Ready(8)
        ));
    }

    #[tokio::test]
    async fn a_flight_given_up_frees_its_key() {
        let flights = Arc::<Flights<u8>>::default();
        let (takeoff, own) = mine(flights.claim(key(1), || None));
        drop(takeoff);
        assert_eq!(own.arrive().await, None);
        let _again = mine(flights.claim(key(1), || None));
    }
}
