//! What two processes say to each other over the Unix socket: one byte a message, and sockets beside it.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;

use tokio_seqpacket::UnixSeqpacket;
use tokio_seqpacket::ancillary::{AncillaryMessageWriter, OwnedAncillaryMessage};

/// Sockets beside one message; Linux takes 253.
const AT_ONCE: usize = 64;
/// Room for their numbers and the header.
const ANCILLARY: usize = 1024;

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Word {
    /// New to old: give me your sockets.
    Take = b'T',
    /// Old to new: here are some.
    Sockets = b'S',
    /// Old to new: that was all.
    All = b'A',
    /// New to old: I serve.
    Serving = b'V',
    /// Old to new: I stop.
    Go = b'G',
    /// Old to new: too late, I serve on.
    No = b'N',
}

impl Word {
    const EVERY: [Self; 6] = [Self::Take, Self::Sockets, Self::All, Self::Serving, Self::Go, Self::No];

    fn byte(self) -> u8 {
        self as u8
    }

    fn of(bytes: &[u8]) -> io::Result<Option<Self>> {
        let Some(byte) = bytes.first() else { return Ok(None) };
        let word = Self::EVERY.into_iter().find(|word| word.byte() == *byte);
        word.map(Some).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "an unknown word"))
    }
}

pub(super) async fn say(socket: &UnixSeqpacket, word: Word) -> io::Result<()> {
    socket.send(&[word.byte()]).await.map(drop)
}

/// The next message; none when the other process has ended.
pub(super) async fn hear(socket: &UnixSeqpacket) -> io::Result<Option<Word>> {
    let mut bytes = [0];
    let read = socket.recv(&mut bytes).await?.bytes_read();
    Word::of(&bytes[..read])
}

/// Sends handles on these sockets.
pub(super) async fn send(socket: &UnixSeqpacket, sockets: &[TcpListener]) -> io::Result<()> {
    for some in sockets.chunks(AT_ONCE) {
        let mut buffer = [0; ANCILLARY];
        let mut ancillary = AncillaryMessageWriter::new(&mut buffer);
        ancillary.add_fds(some.iter().map(AsFd::as_fd)).map_err(|_| io::Error::other("too many sockets"))?;
        socket.send_with_ancillary(&[Word::Sockets.byte()], &mut ancillary).await?;
    }
    say(socket, Word::All).await
}

/// Takes what [`send`] sends.
pub(super) async fn receive(socket: &UnixSeqpacket) -> io::Result<Vec<TcpListener>> {
    let mut sockets = Vec::new();
    loop {
        let (mut bytes, mut buffer) = ([0], [0; ANCILLARY]);
        let (info, ancillary) = socket.recv_with_ancillary(&mut bytes, &mut buffer).await?;
        if info.ancillary_truncated() {
            return Err(io::Error::other("sockets were lost on the way"));
        }
        match Word::of(&bytes[..info.bytes_read()])? {
            Some(Word::Sockets) => {
                for message in ancillary.into_messages() {
                    if let OwnedAncillaryMessage::FileDescriptors(handles) = message {
                        sockets.extend(handles.map(TcpListener::from));
                    }
                }
            }
            Some(Word::All) => return Ok(sockets),
            Some(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "a word out of turn")),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
