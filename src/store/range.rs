//! Few large requests instead of many small ones: which ranges of which packs hold the wanted frames.
//!
//! A plain function from locations to ranges; [`Store::read_many`](crate::Store::read_many) fetches
//! them. An object store takes tens of milliseconds to answer whatever the size, so bytes between two
//! wanted frames are cheaper read than skipped, up to a point.

use std::ops::Range;

use super::pack::frame_range;
use crate::error::Result;
use crate::id::{Location, PackId};

/// Widest gap that is read and thrown away, in bytes: less than a request costs on any network.
const GAP_BYTES_MAX: u64 = 64 << 10;
/// Longest range that is made of several frames, in bytes; beyond it, parallel requests are faster.
const RANGE_BYTES_MAX: u64 = 16 << 20;

/// One request, and the frames it answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fetch {
    pub(super) pack: PackId,
    pub(super) range: Range<u64>,
    /// Of each wanted frame: its position among the locations, and its bytes within the range.
    pub(super) frames: Vec<(usize, Range<usize>)>,
}

/// Plans the requests for `locations`, which may come in any order, overlap and repeat.
///
/// # Errors
///
/// [`Error::Corrupt`](crate::Error::Corrupt) for a location beyond the end of the address space.
pub(super) fn plan(locations: &[Location]) -> Result<Vec<Fetch>> {
    let mut order: Vec<usize> = (0..locations.len()).collect();
    // A scan asks in the order in which its leaves were written, so this is mostly a walk.
    order.sort_by_key(|&at| locations[at]);
    let mut fetches: Vec<Fetch> = Vec::new();
    for at in order {
        let location = &locations[at];
        let wanted = frame_range(location)?;
        match fetches.last_mut() {
            Some(last) if last.pack == location.pack && joins(&last.range, &wanted) => {
                last.range.end = last.range.end.max(wanted.end);
                last.frames.push((at, within(last.range.start, &wanted)));
            }
            _ => fetches.push(Fetch {
                pack: location.pack,
                frames: vec![(at, within(wanted.start, &wanted))],
                range: wanted,
            }),
        }
    }
    Ok(fetches)
}

/// `wanted` starts at or after the start of `range`.
fn joins(range: &Range<u64>, wanted: &Range<u64>) -> bool {
    wanted.end <= range.end
        || (wanted.start <= range.end.saturating_add(GAP_BYTES_MAX)
            && wanted.end - range.start <= RANGE_BYTES_MAX)
}

fn within(start: u64, wanted: &Range<u64>) -> Range<usize> {
    // A range is at most a frame (4 GiB) or `RANGE_BYTES_MAX` long; where `usize` is narrower than
    // that, the request fails before this matters.
    let offset = |at: u64| usize::try_from(at - start).unwrap_or(usize::MAX);
    offset(wanted.start)..offset(wanted.end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(pack: u8, offset: u64, len: u32) -> Location {
        Location {
            pack: PackId([pack; 16]),
            offset,
            len,
        }
    }

    fn ranges(locations: &[Location]) -> Vec<(u8, Range<u64>)> {
        plan(locations)
            .unwrap()
            .into_iter()
            .map(|fetch| (fetch.pack.0[0], fetch.range))
            .collect()
    }

    #[test]
    fn neighbours_share_a_request_and_strangers_do_not() {
        assert_eq!(ranges(&[]), []);
        assert_eq!(ranges(&[at(1, 24, 10), at(1, 34, 10)]), [(1, 24..44)]);
        assert_eq!(
            ranges(&[at(1, 34, 10), at(1, 24, 10), at(1, 24, 10)]),
            [(1, 24..44)]
        );
        assert_eq!(
            ranges(&[at(1, 24, 10), at(2, 34, 10)]),
            [(1, 24..34), (2, 34..44)]
        );
        assert_eq!(
            ranges(&[at(1, 0, 10), at(1, 10 + GAP_BYTES_MAX, 1)]).len(),
            1
        );
        assert_eq!(
            ranges(&[at(1, 0, 10), at(1, 11 + GAP_BYTES_MAX, 1)]).len(),
            2
        );
        assert_eq!(ranges(&[at(1, 0, 100), at(1, 10, 10)]), [(1, 0..100)]);
    }

    #[test]
    fn a_range_is_bounded_unless_one_frame_is_longer() {
        let mib = 1 << 20;
        let locations: Vec<_> = (0..40).map(|n| at(1, n * u64::from(mib), mib)).collect();
        let found = ranges(&locations);
        assert_eq!(found.len(), 3);
        assert!(
            found
                .iter()
                .all(|(_, range)| range.end - range.start <= RANGE_BYTES_MAX)
        );
        assert_eq!(ranges(&[at(1, 0, u32::MAX)]), [(1, 0..u64::from(u32::MAX))]);
    }

    #[test]
    fn a_location_beyond_the_address_space_is_corrupt() {
        assert!(plan(&[at(1, u64::MAX, 1)]).is_err());
        assert!(plan(&[at(1, u64::MAX, 0), at(1, u64::MAX - 1, 1)]).is_ok());
    }

    proptest! {
        #[test]
        fn every_location_is_answered_once_with_its_own_bytes(
            wanted in prop::collection::vec((0..3u8, 0..300_000u64, 0..5_000u32), 0..60)
        ) {
            let wanted: Vec<_> = wanted.into_iter().map(|(p, o, l)| at(p, o, l)).collect();
            let mut answered = vec![0; wanted.len()];
            for fetch in plan(&wanted).unwrap() {
                for (index, range) in fetch.frames {
                    let location = wanted[index];
                    answered[index] += 1;
                    prop_assert_eq!(fetch.pack, location.pack);
                    prop_assert_eq!(fetch.range.start + range.start as u64, location.offset);
                    prop_assert_eq!(range.len(), location.len as usize);
                    prop_assert!(fetch.range.start + range.end as u64 <= fetch.range.end);
                }
            }
            prop_assert!(answered.iter().all(|&times| times == 1));
        }
    }
}
