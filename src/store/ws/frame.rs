//! The words of the protocol and their bytes: plain functions, described in `PROTOCOL.md`.

use bytes::Bytes;
use object_store::path::Path;

use crate::id::{BranchName, PackId};
use crate::store::{HeadVersion, layout};
use crate::wire::{Malformed, Reader, Result, Writer};

/// The version of the protocol that is spoken here.
pub(super) const VERSION: u32 = 1;
/// Frames that a peer may have under way before it is granted more.
pub(super) const CREDIT: u32 = 64;
/// Most bytes of a body in one frame.
pub(super) const DATA_BYTES_MAX: usize = 256 << 10;
/// Longest frame, in bytes.
pub(super) const FRAME_BYTES_MAX: usize = DATA_BYTES_MAX + (8 << 10);

const MAGIC: [u8; 4] = *b"DFWS";

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// The first of both sides. Its first nine bytes are the same in all versions.
    Hello {
        version: u32,
        /// Frames that the other side may have under way.
        credit: u32,
        /// Whether writes are taken; of a client it says nothing.
        writes: bool,
    },
    /// So many frames were taken in: as many more may be sent.
    Credit(u32),
    Request {
        id: u32,
        request: Request,
    },
    /// A part of the body that the request or the answer of this number announced.
    Data {
        id: u32,
        bytes: Bytes,
    },
    Answer {
        id: u32,
        answer: Answer,
    },
    /// Instead of an answer, or of the rest of one.
    Failed {
        id: u32,
        why: Why,
        said: String,
    },
    /// Nobody waits for an answer any more.
    Cancel {
        id: u32,
    },
}

/// What is asked of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Get {
        object: Object,
        part: Part,
    },
    List(Kind),
    /// Followed by so many bytes of data.
    Put {
        object: Object,
        len: u64,
    },
    Delete(Object),
    /// A head, if it is not the one that was seen; with `wait`, not before it is another.
    Head {
        branch: BranchName,
        seen: Option<HeadVersion>,
        wait: bool,
    },
    /// Followed by so many bytes of data.
    Swap {
        branch: BranchName,
        expected: Option<HeadVersion>,
        len: u64,
    },
    Branches,
}

/// A thing that is written once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) kind: Kind,
    pub(super) id: PackId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Pack,
    Note,
}

/// Which bytes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    All,
    Nothing,
    Range { start: u64, end: u64 },
    From(u64),
    Last(u64),
}

/// What came of a request. Where there is a `len`, so many bytes of data follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Done,
    Object {
        size: u64,
        /// In milliseconds since the epoch, by the clock of the storage.
        modified: i64,
        start: u64,
        len: u64,
    },
    Listing {
        len: u64,
    },
    Head {
        version: HeadVersion,
        len: u64,
    },
    /// There is no such branch.
    Absent,
    /// The head is the one that was seen.
    Same,
    Swapped(HeadVersion),
    Conflict,
}

impl Answer {
    /// Bytes of data that follow.
    pub(super) fn body_len(&self) -> u64 {
        match self {
            Self::Object { len, .. } | Self::Listing { len } | Self::Head { len, .. } => *len,
            _ => 0,
        }
    }
}

/// Why a request failed, by what the client makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Missing,
    Exists,
    Unsupported,
    Denied,
    Corrupt,
    Storage,
    /// It may have happened.
    Unknown,
}

impl Frame {
    /// Whether it takes of what the other side granted.
    pub(super) fn costs(&self) -> bool {
        !matches!(self, Self::Hello { .. } | Self::Credit(_))
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut out = Writer::new();
        match self {
            Self::Hello {
                version,
                credit,
                writes,
            } => {
                out.u8(0);
                out.raw(&MAGIC);
                out.u32(*version);
                out.u32(*credit);
                out.u8(u8::from(*writes));
            }
            Self::Credit(frames) => {
                out.u8(1);
                out.u32(*frames);
            }
            Self::Request { id, request } => {
                out.u8(2);
                out.u32(*id);
                request.write(&mut out);
            }
            Self::Data { id, bytes } => {
                out.u8(3);
                out.u32(*id);
                out.raw(bytes);
            }
            Self::Answer { id, answer } => {
                out.u8(4);
                out.u32(*id);
                answer.write(&mut out);
            }
            Self::Failed { id, why, said } => {
                out.u8(5);
                out.u32(*id);
                out.u8(*why as u8);
                out.bytes(said.as_bytes());
            }
            Self::Cancel { id } => {
                out.u8(6);
                out.u32(*id);
            }
        }
        out.into_bytes().into()
    }

    pub(super) fn decode(bytes: &Bytes) -> Result<Self> {
        let mut from = Reader::new(bytes);
        let frame = match from.u8()? {
            0 => {
                if from.array::<4>()? != MAGIC {
                    return Err(Malformed("it is no greeting of DatomFusion"));
                }
                let version = from.u32()?;
                if version != VERSION {
                    return Ok(Self::Hello {
                        version,
                        credit: 0,
                        writes: false,
                    });
                }
                Self::Hello {
                    version,
                    credit: from.u32()?,
                    writes: flag(&mut from)?,
                }
            }
            1 => Self::Credit(from.u32()?),
            2 => Self::Request {
                id: from.u32()?,
                request: Request::read(&mut from)?,
            },
            3 => {
                let (id, at) = (from.u32()?, bytes.len() - from.remaining());
                from.raw(from.remaining())?;
                let bytes = bytes.slice(at..);
                if bytes.is_empty() || bytes.len() > DATA_BYTES_MAX {
                    return Err(Malformed("a frame has no data, or too much"));
                }
                Self::Data { id, bytes }
            }
            4 => Self::Answer {
                id: from.u32()?,
                answer: Answer::read(&mut from)?,
            },
            5 => Self::Failed {
                id: from.u32()?,
                why: why(from.u8()?)?,
                said: from.text()?.to_owned(),
            },
            6 => Self::Cancel { id: from.u32()? },
            _ => return Err(Malformed("a frame is of no known kind")),
        };
        from.finish()?;
        Ok(frame)
    }
}

impl Request {
    /// Whether it changes what is there.
    pub(super) fn writes(&self) -> bool {
        matches!(self, Self::Put { .. } | Self::Delete(_) | Self::Swap { .. })
    }

    fn write(&self, out: &mut Writer) {
        match self {
            Self::Get { object, part } => {
                out.u8(0);
                object.write(out);
                part.write(out);
            }
            Self::List(kind) => {
                out.u8(1);
                out.u8(*kind as u8);
            }
            Self::Put { object, len } => {
                out.u8(2);
                object.write(out);
                out.u64(*len);
            }
            Self::Delete(object) => {
                out.u8(3);
                object.write(out);
            }
            Self::Head { branch, seen, wait } => {
                out.u8(4);
                out.bytes(branch.as_str().as_bytes());
                write_optional(seen.as_ref(), out);
                out.u8(u8::from(*wait));
            }
            Self::Swap {
                branch,
                expected,
                len,
            } => {
                out.u8(5);
                out.bytes(branch.as_str().as_bytes());
                write_optional(expected.as_ref(), out);
                out.u64(*len);
            }
            Self::Branches => out.u8(6),
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self> {
        Ok(match from.u8()? {
            0 => Self::Get {
                object: Object::read(from)?,
                part: Part::read(from)?,
            },
            1 => Self::List(kind(from.u8()?)?),
            2 => Self::Put {
                object: Object::read(from)?,
                len: from.u64()?,
            },
            3 => Self::Delete(Object::read(from)?),
            4 => Self::Head {
                branch: branch(from)?,
                seen: optional(from)?,
                wait: flag(from)?,
            },
            5 => Self::Swap {
                branch: branch(from)?,
                expected: optional(from)?,
                len: from.u64()?,
            },
            6 => Self::Branches,
            _ => return Err(Malformed("a request is of no known kind")),
        })
    }
}

impl Object {
    /// Where it lies in a store.
    pub(super) fn key(self, prefix: &Path) -> Path {
        match self.kind {
            Kind::Pack => layout::pack_key(prefix, self.id),
            Kind::Note => layout::note_key(prefix, self.id),
        }
    }

    fn write(&self, out: &mut Writer) {
        out.u8(self.kind as u8);
        out.raw(&self.id.0);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            kind: kind(from.u8()?)?,
            id: PackId(from.array()?),
        })
    }
}

impl Part {
    fn write(self, out: &mut Writer) {
        match self {
            Self::All => out.u8(0),
            Self::Nothing => out.u8(1),
            Self::Range { start, end } => {
                out.u8(2);
                out.u64(start);
                out.u64(end);
            }
            Self::From(start) => {
                out.u8(3);
                out.u64(start);
            }
            Self::Last(len) => {
                out.u8(4);
                out.u64(len);
            }
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self> {
        Ok(match from.u8()? {
            0 => Self::All,
            1 => Self::Nothing,
            2 => {
                let (start, end) = (from.u64()?, from.u64()?);
                if start >= end {
                    return Err(Malformed("a range is empty"));
                }
                Self::Range { start, end }
            }
            3 => Self::From(from.u64()?),
            4 => Self::Last(from.u64()?),
            _ => return Err(Malformed("a part is of no known kind")),
        })
    }
}

impl Answer {
    fn write(&self, out: &mut Writer) {
        match self {
            Self::Done => out.u8(0),
            Self::Object {
                size,
                modified,
                start,
                len,
            } => {
                out.u8(1);
                out.u64(*size);
                out.zigzag(*modified);
                out.u64(*start);
                out.u64(*len);
            }
            Self::Listing { len } => {
                out.u8(2);
                out.u64(*len);
            }
            Self::Head { version, len } => {
                out.u8(3);
                write_version(version, out);
                out.u64(*len);
            }
            Self::Absent => out.u8(4),
            Self::Same => out.u8(5),
            Self::Swapped(version) => {
                out.u8(6);
                write_version(version, out);
            }
            Self::Conflict => out.u8(7),
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self> {
        Ok(match from.u8()? {
            0 => Self::Done,
            1 => Self::Object {
                size: from.u64()?,
                modified: from.zigzag()?,
                start: from.u64()?,
                len: from.u64()?,
            },
            2 => Self::Listing { len: from.u64()? },
            3 => Self::Head {
                version: version(from)?,
                len: from.u64()?,
            },
            4 => Self::Absent,
            5 => Self::Same,
            6 => Self::Swapped(version(from)?),
            7 => Self::Conflict,
            _ => return Err(Malformed("an answer is of no known kind")),
        })
    }
}

fn kind(code: u8) -> Result<Kind> {
    match code {
        0 => Ok(Kind::Pack),
        1 => Ok(Kind::Note),
        _ => Err(Malformed("an object is of no known kind")),
    }
}

fn why(code: u8) -> Result<Why> {
    Ok(match code {
        0 => Why::Missing,
        1 => Why::Exists,
        2 => Why::Unsupported,
        3 => Why::Denied,
        4 => Why::Corrupt,
        5 => Why::Storage,
        6 => Why::Unknown,
        _ => return Err(Malformed("a failure is of no known kind")),
    })
}

fn flag(from: &mut Reader<'_>) -> Result<bool> {
    match from.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed("a flag is neither set nor unset")),
    }
}

fn branch(from: &mut Reader<'_>) -> Result<BranchName> {
    BranchName::try_new(from.text()?).map_err(|_| Malformed("a name is not that of a branch"))
}

fn version(from: &mut Reader<'_>) -> Result<HeadVersion> {
    let tag = from.text()?;
    let generation = if flag(from)? {
        Some(from.text()?)
    } else {
        None
    };
    // Servers of objects are shown it in a header, and a header of anything else is a panic.
    if [Some(tag), generation]
        .iter()
        .flatten()
        .any(|text| text.contains(char::is_control))
    {
        return Err(Malformed("a version has characters that none has"));
    }
    Ok(HeadVersion::of_parts(tag, generation))
}

fn write_version(version: &HeadVersion, out: &mut Writer) {
    out.bytes(version.tag().as_bytes());
    out.u8(u8::from(version.generation().is_some()));
    if let Some(generation) = version.generation() {
        out.bytes(generation.as_bytes());
    }
}

fn optional(from: &mut Reader<'_>) -> Result<Option<HeadVersion>> {
    flag(from)?.then(|| version(from)).transpose()
}

fn write_optional(version: Option<&HeadVersion>, out: &mut Writer) {
    out.u8(u8::from(version.is_some()));
    if let Some(version) = version {
        write_version(version, out);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn samples() -> Vec<Frame> {
        let (id, branch) = (7, BranchName::try_new("dev/ä").unwrap());
        let version = HeadVersion::of_parts("\"tag\"", Some("12"));
        let object = Object {
            kind: Kind::Note,
            id: PackId([9; 16]),
        };
        let requests = [
            Part::All,
            Part::Nothing,
            Part::Range { start: 3, end: 9 },
            Part::From(u64::MAX),
            Part::Last(1),
        ]
        .map(|part| Request::Get { object, part })
        .into_iter()
        .chain([
            Request::List(Kind::Pack),
            Request::Put {
                object,
                len: 1 << 40,
            },
            Request::Delete(object),
            Request::Head {
                branch: branch.clone(),
                seen: Some(version.clone()),
                wait: true,
            },
            Request::Swap {
                branch,
                expected: None,
                len: 3,
            },
            Request::Branches,
        ])
        .map(|request| Frame::Request { id, request });
        let answers = [
            Answer::Done,
            Answer::Object {
                size: 4,
                modified: -1,
                start: 1,
                len: 2,
            },
            Answer::Listing { len: 0 },
            Answer::Head {
                version: HeadVersion::new("v"),
                len: 5,
            },
            Answer::Absent,
            Answer::Same,
            Answer::Swapped(version),
            Answer::Conflict,
        ]
        .map(|answer| Frame::Answer { id, answer });
        let failures = (0..7).map(|code| Frame::Failed {
            id,
            why: why(code).unwrap(),
            said: "no".into(),
        });
        let bytes = Bytes::from_static(b"data");
        let others = [
            Frame::Hello {
                version: VERSION,
                credit: CREDIT,
                writes: true,
            },
            Frame::Credit(3),
            Frame::Data { id, bytes },
            Frame::Cancel { id },
        ];
        requests
            .chain(answers)
            .chain(failures)
            .chain(others)
            .collect()
    }

    #[test]
    fn a_frame_is_read_as_it_was_written_and_a_damaged_one_is_no_panic() {
        for frame in samples() {
            let bytes = frame.encode();
            assert_eq!(Frame::decode(&bytes), Ok(frame.clone()));
            for len in 0..bytes.len() {
                let _ = Frame::decode(&bytes.slice(..len));
            }
            if !matches!(frame, Frame::Data { .. }) {
                let longer = [&bytes[..], b"\0"].concat();
                assert!(Frame::decode(&longer.into()).is_err(), "{frame:?}");
            }
        }
    }

    /// A tag with a line break in it became a header of a request to the storage, which panicked.
    #[test]
    fn a_version_that_could_be_no_header_is_refused() {
        for (tag, generation) in [("a\nb", None), ("\u{7f}", Some("1")), ("a", Some("1\r"))] {
            let version = HeadVersion::of_parts(tag, generation);
            let answer = Answer::Swapped(version);
            let bytes = Frame::Answer { id: 1, answer }.encode();
            assert!(Frame::decode(&bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn of_another_version_only_the_number_is_read() {
        let bytes = Bytes::from([b"\0DFWS\x02\0\0\0".as_slice(), &[0xff; 99]].concat());
        let read = Frame::decode(&bytes);
        assert!(
            matches!(read, Ok(Frame::Hello { version: 2, .. })),
            "{read:?}"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_frame_or_an_error(kind in 0..8u8, rest in prop::collection::vec(any::<u8>(), 0..60)) {
            let bytes = Bytes::from([&[kind], &rest[..]].concat());
            if let Ok(frame) = Frame::decode(&bytes)
                && !matches!(frame, Frame::Hello { .. })
            {
                prop_assert_eq!(frame.encode(), bytes);
            }
        }
    }
}
