//! The hand-over by itself: the pool's bound, the order, and (under loom) the wake-ups.
//!
//! *IO: none*

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tidewater_types::Lsn;

use super::{Inlet, PoolShape};
use crate::acks::Acks;
use crate::port::Frame;

const BLOCK: usize = 512;

fn inlet(depth: usize, batches: usize) -> Inlet {
    let shape = PoolShape {
        pool_bytes: batches * 8 * BLOCK,
        batch_bytes: 8 * BLOCK,
        align: BLOCK,
        depth,
    };
    Inlet::new(shape, Arc::new(Acks::new(Lsn(0))), Lsn(0))
}

fn frame(num_bytes: usize) -> Frame {
    Frame::from(Bytes::from(vec![7; num_bytes]))
}

#[cfg(not(feature = "loom"))]
mod plain {
    use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

    use std::task::Waker;

    use super::super::Batch;
    use super::{Acks, Arc, BLOCK, Inlet, Lsn, PoolShape, VecDeque, frame, inlet};
    use crate::error::{Resource, WalError};
    use crate::format::group::HEADER_BYTES;

    const DEPTH: usize = 3;

    #[derive(Clone, Debug)]
    enum Step {
        Append(usize),
        /// The engine looks; it takes an open batch only when it has nothing to do.
        Look,
        Written,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let sizes = prop_oneof![
            0usize..200,
            1500usize..2100,
            3900usize..4200,
            0usize..12_000
        ];
        let step = prop_oneof![
            4 => sizes.prop_map(Step::Append),
            2 => Just(Step::Look),
            1 => any::<bool>().prop_map(|_| Step::Written),
        ];
        proptest::collection::vec(step, 1..300)
    }

    struct Engine {
        pending: VecDeque<Batch>,
        under_way: VecDeque<Batch>,
        next: Lsn,
    }

    impl Engine {
        fn look(&mut self, inlet: &Inlet) {
            let open = self.pending.is_empty() && self.under_way.is_empty();
            let mut batches = VecDeque::new();
            inlet.take(Waker::noop(), open, &mut batches);
            for batch in batches {
                assert_eq!(batch.lsn, self.next, "batches follow each other");
                assert!(batch.num_frames > 0);
                assert_eq!(
                    batch.buf.len() as u64,
                    HEADER_BYTES as u64 + batch.payload_bytes()
                );
                self.next = batch.end;
                self.pending.push_back(batch);
            }
            while self.under_way.len() < DEPTH
                && let Some(batch) = self.pending.pop_front()
            {
                self.under_way.push_back(batch);
            }
        }

        /// Room of the batch that was written first.
        fn written(&mut self, inlet: &Inlet) -> usize {
            self.under_way.pop_front().map_or(0, |batch| {
                inlet.give_back([batch.buf]);
                batch.room
            })
        }
    }

    proptest! {
        /// The pool asserts its bound itself.
        #[test]
        fn permits_never_fill_more_than_the_pool(steps in steps(), batch_blocks in 1usize..=8) {
            let shape = PoolShape {
                batch_bytes: batch_blocks * BLOCK,
                ..inlet(DEPTH, 20).shape
            };
            let inlet = Inlet::new(shape, Arc::new(Acks::new(Lsn(0))), Lsn(0));
            let mut free = inlet.shape.room_bytes();
            let mut engine = Engine {
                pending: VecDeque::new(),
                under_way: VecDeque::new(),
                next: Lsn(0),
            };
            let mut accepted = 0;
            for step in steps {
                match step {
                    Step::Append(num_bytes) if num_bytes + 4 <= free => {
                        let append = inlet.append(&frame(num_bytes), num_bytes + 4).unwrap();
                        assert_eq!(append.lsn(), Lsn(accepted));
                        accepted += num_bytes as u64 + 4;
                        free -= num_bytes + 4;
                    }
                    Step::Append(_) => {}
                    Step::Look => engine.look(&inlet),
                    Step::Written => free += engine.written(&inlet),
                }
                assert_eq!(inlet.accepted(), Lsn(accepted));
            }
        }
    }

    #[test]
    fn an_open_batch_stays_until_it_is_asked_for() {
        let inlet = inlet(1, 10);
        let mut taken = VecDeque::new();
        inlet.append(&frame(10), 14).unwrap();
        inlet.take(Waker::noop(), false, &mut taken);
        assert!(taken.is_empty());
        inlet.append(&frame(20), 24).unwrap();
        inlet.take(Waker::noop(), true, &mut taken);
        let batch = taken.pop_front().unwrap();
        assert_eq!((batch.num_frames, batch.room), (2, 38));
        assert_eq!((batch.lsn, batch.end), (Lsn(0), Lsn(38)));
    }

    #[test]
    fn a_frame_larger_than_a_buffer_gets_one_of_its_own() {
        let inlet = inlet(1, 30);
        inlet.append(&frame(10), 14).unwrap();
        inlet.append(&frame(9 * BLOCK), 9 * BLOCK + 4).unwrap();
        inlet.append(&frame(BLOCK), BLOCK + 4).unwrap();
        let mut taken = VecDeque::new();
        inlet.take(Waker::noop(), true, &mut taken);
        let sizes: Vec<_> = taken.iter().map(|batch| batch.buf.capacity()).collect();
        assert_eq!(sizes, [8 * BLOCK, 10 * BLOCK, 8 * BLOCK]);
        let before = inlet.state.lock().allocated_bytes;
        inlet.give_back(taken.into_iter().map(|batch| batch.buf));
        assert_eq!(inlet.state.lock().allocated_bytes, before - 10 * BLOCK);
    }

    #[test]
    fn nothing_is_taken_after_a_refusal() {
        let inlet = inlet(1, 10);
        inlet.refuse(WalError::Full {
            what: Resource::Ring,
        });
        inlet.refuse(WalError::Closed);
        let error = inlet.append(&frame(1), 5).unwrap_err();
        assert!(matches!(error, WalError::Full { .. }));
        assert_eq!(inlet.accepted(), Lsn(0));
    }
}

/// Exhaustive interleavings, under loom.
#[cfg(feature = "loom")]
mod interleavings {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::task::Poll;

    use loom::future::block_on;
    use loom::thread;

    use super::{VecDeque, frame, inlet};

    /// An engine that sleeps until it is woken sees every frame, whoever appends when.
    #[test]
    fn loom_the_engine_misses_no_frame() {
        loom::model(|| {
            let inlet = Arc::new(inlet(1, 10));
            let callers: Vec<_> = (0..2)
                .map(|_| {
                    let inlet = Arc::clone(&inlet);
                    thread::spawn(move || drop(inlet.append(&frame(3), 7).unwrap()))
                })
                .collect();
            let mut frames = 0;
            block_on(poll_fn(|cx| {
                let mut taken = VecDeque::new();
                inlet.take(cx.waker(), true, &mut taken);
                frames += taken.iter().map(|batch| batch.num_frames).sum::<u32>();
                if frames == 2 {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            }));
            callers.into_iter().for_each(|it| it.join().unwrap());
        });
    }

    /// A window of one group: the engine takes no open batch while one is under way, and looks
    /// again when it was written. What was appended meanwhile is not forgotten.
    #[test]
    fn loom_a_batch_filled_while_another_is_under_way_is_taken_after_it() {
        loom::model(|| {
            let inlet = Arc::new(inlet(1, 10));
            inlet.append(&frame(1), 5).unwrap();
            let caller = Arc::clone(&inlet);
            let caller = thread::spawn(move || drop(caller.append(&frame(2), 6).unwrap()));
            let (mut under_way, mut frames) = (VecDeque::new(), 0);
            block_on(poll_fn(|cx| {
                loop {
                    inlet.take(cx.waker(), under_way.is_empty(), &mut under_way);
                    let Some(batch) = under_way.pop_front() else {
                        return Poll::Pending;
                    };
                    // Under way: a look in between must not take the open one.
                    let mut others = VecDeque::new();
                    inlet.take(cx.waker(), false, &mut others);
                    assert!(others.is_empty());
                    frames += batch.num_frames;
                    inlet.give_back([batch.buf]);
                    if frames == 2 {
                        return Poll::Ready(());
                    }
                }
            }));
            caller.join().unwrap();
        });
    }
}
