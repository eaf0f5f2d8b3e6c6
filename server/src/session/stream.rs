//! A player on any stream of bytes: an encrypted one, or a simulated network's.

use tokio::io::{AsyncRead, AsyncWrite};

use super::queued::{self, Sink};
use super::source::Source;
use crate::admission::Admitted;
use crate::run::Shared;

/// What a session can be held over.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<Any: AsyncRead + AsyncWrite + Send + Unpin> Stream for Any {}

/// A stream of any kind.
pub(super) type BoxedStream = Box<dyn Stream>;

/// Serves a connection to its end.
pub(crate) async fn serve(shared: &Shared, stream: impl Stream + 'static, admitted: Admitted) {
    let (reader, writer) = tokio::io::split(Box::new(stream) as BoxedStream);
    let source = Source::stream(reader, &shared.config);
    queued::serve(shared, Sink::Stream(writer), source, admitted).await;
}
