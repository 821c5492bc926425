//! What two processes say to each other over the Unix socket: one byte a message, and sockets beside it.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

use portolan_proxy::{ClientSockets, HandedOver};
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
    /// Old to new: here are some of TCP.
    Sockets = b'S',
    /// Old to new: here are some of UDP. New to old, behind the first word: give me those, too.
    UdpSockets = b'U',
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
    const EVERY: [Self; 7] =
        [Self::Take, Self::Sockets, Self::UdpSockets, Self::All, Self::Serving, Self::Go, Self::No];

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

/// Asks for all sockets. A process that knows those of TCP alone reads the first byte, and sends those.
pub(super) async fn ask(socket: &UnixSeqpacket) -> io::Result<()> {
    socket.send(&[Word::Take.byte(), Word::UdpSockets.byte()]).await.map(drop)
}

/// Which sockets the other process asks for; none when it asks for nothing.
pub(super) async fn hear_asking(socket: &UnixSeqpacket) -> io::Result<Option<HandedOver>> {
    let mut bytes = [0; 2];
    let read = socket.recv(&mut bytes).await?.bytes_read();
    if Word::of(&bytes[..read])? != Some(Word::Take) {
        return Ok(None);
    }
    let is_all = bytes[1..read].contains(&Word::UdpSockets.byte());
    Ok(Some(if is_all { HandedOver::All } else { HandedOver::Tcp }))
}

/// Sends handles on these sockets.
pub(super) async fn send(socket: &UnixSeqpacket, sockets: &ClientSockets, what: HandedOver) -> io::Result<()> {
    send_some(socket, Word::Sockets, &sockets.tcp).await?;
    if what == HandedOver::All {
        send_some(socket, Word::UdpSockets, &sockets.udp).await?;
    }
    say(socket, Word::All).await
}

async fn send_some(socket: &UnixSeqpacket, word: Word, sockets: &[impl AsFd]) -> io::Result<()> {
    for some in sockets.chunks(AT_ONCE) {
        let mut buffer = [0; ANCILLARY];
        let mut ancillary = AncillaryMessageWriter::new(&mut buffer);
        ancillary.add_fds(some.iter().map(AsFd::as_fd)).map_err(|_| io::Error::other("too many sockets"))?;
        socket.send_with_ancillary(&[word.byte()], &mut ancillary).await?;
    }
    Ok(())
}

/// Takes what [`send`] sends.
pub(super) async fn receive(socket: &UnixSeqpacket) -> io::Result<ClientSockets> {
    let mut sockets = ClientSockets::default();
    loop {
        let (mut bytes, mut buffer) = ([0], [0; ANCILLARY]);
        let (info, ancillary) = socket.recv_with_ancillary(&mut bytes, &mut buffer).await?;
        if info.ancillary_truncated() {
            return Err(io::Error::other("sockets were lost on the way"));
        }
        let handles = ancillary.into_messages().filter_map(|message| match message {
            OwnedAncillaryMessage::FileDescriptors(handles) => Some(handles),
            _ => None,
        });
        let handles: Vec<OwnedFd> = handles.flatten().collect();
        match Word::of(&bytes[..info.bytes_read()])? {
            Some(Word::Sockets) => sockets.tcp.extend(handles.into_iter().map(TcpListener::from)),
            Some(Word::UdpSockets) => sockets.udp.extend(handles.into_iter().map(UdpSocket::from)),
            Some(Word::All) => return Ok(sockets),
            Some(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "a word out of turn")),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
