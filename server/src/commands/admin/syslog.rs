//! To a collector of syslog: a message in each datagram (RFC 5426), or octet-counted in a stream (RFC 6587, 3.4.1).

use crate::cli::audit::Collector;
use std::{
    io::{Error, ErrorKind, Result},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use tokio::{
    io::{AsyncWriteExt, BufWriter},
    net::{TcpStream, UdpSocket, lookup_host},
    time::timeout,
};

/// A collector that takes nothing for so long is not waited for any more.
const PATIENCE: Duration = Duration::from_secs(30);

/// The way to a collector.
#[derive(Debug)]
pub enum Sender {
    Udp(UdpSocket),
    Tcp(BufWriter<TcpStream>),
}

impl Sender {
    /// # Errors
    /// There is nobody.
    pub async fn connect(to: &Collector) -> Result<Self> {
        in_time(async {
            match to {
                Collector::Tcp(addr) => Ok(Self::Tcp(BufWriter::new(TcpStream::connect(addr).await?))),
                Collector::Udp(addr) => {
                    let addr = lookup_host(addr).await?.next().ok_or_else(|| Error::from(ErrorKind::NotFound))?;
                    let from: SocketAddr = match addr {
                        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
                    };
                    let socket = UdpSocket::bind(from).await?;
                    socket.connect(addr).await?;
                    Ok(Self::Udp(socket))
                }
            }
        })
        .await
    }

    /// Sends a message. That it arrives, neither protocol says.
    ///
    /// # Errors
    /// It cannot be sent.
    pub async fn send(&mut self, message: &str) -> Result<()> {
        in_time(async {
            match self {
                Self::Udp(socket) => socket.send(message.as_bytes()).await.map(drop),
                Self::Tcp(stream) => stream.write_all(format!("{} {message}", message.len()).as_bytes()).await,
            }
        })
        .await
    }

    /// Sends what is left and ends.
    ///
    /// # Errors
    /// It cannot be sent.
    pub async fn finish(self) -> Result<()> {
        match self {
            Self::Udp(_) => Ok(()),
            // Flushes first.
            Self::Tcp(mut stream) => in_time(stream.shutdown()).await,
        }
    }
}

async fn in_time<T>(sending: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(PATIENCE, sending).await.unwrap_or_else(|_| Err(Error::from(ErrorKind::TimedOut)))
}

#[cfg(test)]
mod tests {
    use super::Sender;
    use crate::cli::audit::Collector;
    use tokio::{
        io::AsyncReadExt,
        net::{TcpListener, UdpSocket},
    };

    #[tokio::test]
    async fn a_stream_counts_octets() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = Collector::Tcp(listener.local_addr().unwrap().to_string());
        let mut sender = Sender::connect(&to).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        for message in ["<1>1", "\u{e4}b"] {
            sender.send(message).await.unwrap();
        }
        sender.finish().await.unwrap();
        let mut got = String::new();
        stream.read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "4 <1>13 \u{e4}b");
    }

    #[tokio::test]
    async fn a_datagram_is_a_message() {
        let collector = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut sender = Sender::connect(&Collector::Udp(collector.local_addr().unwrap().to_string())).await.unwrap();
        for message in ["one", "two"] {
            sender.send(message).await.unwrap();
        }
        sender.finish().await.unwrap();
        let mut buffer = [0; 16];
        for expected in ["one", "two"] {
            let length = collector.recv(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..length], expected.as_bytes());
        }
    }

    #[tokio::test]
    async fn nobody_there_is_an_error() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert!(Sender::connect(&Collector::Tcp(closed.to_string())).await.is_err());
    }
}
