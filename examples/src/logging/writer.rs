//! A writer of log lines that never blocks the caller, never fails and never panics.
//!
//! Lines go to a buffer in memory, and a thread writes the buffer to where logs belong. If that takes
//! nothing (a reader that has stopped, a full disk, a closed pipe), lines are lost and counted; when
//! it works again, a line says how many. `tracing-appender` has such a writer, too, but its buffer is
//! bounded in lines and not in bytes, it reports its own trouble with `eprintln!`, which panics or
//! blocks exactly then, and it counts only what its buffer does not take.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tracing::warn;
use tracing_subscriber::fmt::MakeWriter;

/// Most that waits to be written, in bytes: some 8,000 lines.
const BUFFER_BYTES: usize = 1 << 20;

/// How long to wait for an output that does not block and takes nothing at the moment.
const RETRY: Duration = Duration::from_millis(10);

/// Takes lines, and counts those that are lost.
#[derive(Clone, Debug, Default)]
pub(super) struct LogWriter(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    buffer: Mutex<Buffer>,
    /// The buffer has something, or the thread has written something.
    changed: Condvar,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    is_writing: bool,
    /// How many bytes the output has taken.
    written: usize,
}

impl LogWriter {
    /// Starts the thread that writes to `output`. It runs as long as the process.
    pub(super) fn start(output: impl Write + Send + 'static) -> io::Result<Self> {
        let writer = Self::default();
        let shared = Arc::clone(&writer.0);
        thread::Builder::new()
            .name("logs".into())
            .spawn(move || shared.write_all(output))?;
        Ok(writer)
    }

    /// How many lines were lost.
    pub(super) fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// Waits until everything is written, or until nothing was for as long as `patience`.
    pub(super) fn flush(&self, patience: Duration) {
        let shared = &self.0;
        let mut buffer = shared.lock();
        while buffer.is_writing || !buffer.bytes.is_empty() {
            let written = buffer.written;
            let unchanged = |buffer: &mut Buffer| {
                buffer.written == written && (buffer.is_writing || !buffer.bytes.is_empty())
            };
            let waited = shared
                .changed
                .wait_timeout_while(buffer, patience, unchanged);
            let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            buffer = guard;
            if timeout.timed_out() {
                return;
            }
        }
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

/// Takes a line per call.
impl Write for &LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut buffer = self.lock();
        if buffer.bytes.len() + line.len() > BUFFER_BYTES {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        buffer.bytes.extend_from_slice(line);
        drop(buffer);
        self.changed.notify_all();
    }

    /// Writes what comes to `output`, for ever.
    fn write_all(&self, mut output: impl Write) {
        let mut batch = Vec::new();
        let (mut is_torn, mut reported) = (false, 0);
        loop {
            self.next_batch(&mut batch);
            if is_torn {
                // The rest of that line is lost; the next one begins on a line of its own.
                batch.insert(0, b'\n');
            }
            let written = self.write(&mut output, &batch);
            let (done, rest) = batch.split_at(written);
            let was_torn = is_torn;
            is_torn = done.last().map_or(is_torn, |&last| last != b'\n');
            let ends = rest.iter().filter(|&&byte| byte == b'\n').count();
            let lost = ends - usize::from(was_torn && written == 0);
            self.lost.fetch_add(lost as u64, Ordering::Relaxed);
            batch.clear();
            batch.shrink_to(BUFFER_BYTES / 16);

            let lost = self.lost.load(Ordering::Relaxed);
            if written > 0 && lost > reported {
                warn!(lines = lost - reported, "log lines were lost");
                reported = lost;
            }
            self.lock().is_writing = false;
            self.changed.notify_all();
        }
    }

    /// Swaps what waits to be written into `batch`, which is empty.
    fn next_batch(&self, batch: &mut Vec<u8>) {
        let buffer = self.lock();
        let waited = self
            .changed
            .wait_while(buffer, |buffer| buffer.bytes.is_empty());
        let mut buffer = waited.unwrap_or_else(PoisonError::into_inner);
        core::mem::swap(&mut buffer.bytes, batch);
        buffer.is_writing = true;
    }

    /// Writes `batch`; returns how much of it was.
    fn write(&self, output: &mut impl Write, batch: &[u8]) -> usize {
        let mut written = 0;
        while let Some(rest) = batch.get(written..).filter(|rest| !rest.is_empty()) {
            match output.write(rest) {
                Ok(0) => break,
                Ok(length) => {
                    written += length;
                    self.lock().written += length;
                    self.changed.notify_all();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY),
                Err(_) => break,
            }
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Longer than anything here takes, so that what hangs fails.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// An output that asks for the result of each write.
    struct Asking {
        answers: Receiver<io::Result<usize>>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Asking {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Without an answer, it takes nothing for ever.
            let Ok(answer) = self.answers.recv() else {
                loop {
                    thread::park();
                }
            };
            let length = answer?.min(bytes.len());
            let _ = self.written.send(bytes[..length].to_vec());
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn asking() -> (LogWriter, Sender<io::Result<usize>>, Receiver<Vec<u8>>) {
        let (answer, answers) = channel();
        let (written, output) = channel();
        let writer = LogWriter::start(Asking { answers, written }).unwrap();
        (writer, answer, output)
    }

    fn log(mut writer: &LogWriter, line: &str) {
        writer.write_all(line.as_bytes()).unwrap();
    }

    #[test]
    fn an_output_that_takes_nothing_blocks_nobody_and_losses_are_counted() {
        let (writer, answer, output) = asking();
        let line = format!("{}\n", "x".repeat(99));
        let lines = 3 * BUFFER_BYTES / line.len();
        for _ in 0..lines {
            log(&writer, &line);
        }
        let lost = usize::try_from(writer.lost()).unwrap();
        assert!(lost >= lines / 3, "{lost}");
        writer.flush(Duration::ZERO);
        for _ in 0..lines {
            answer.send(Ok(BUFFER_BYTES)).unwrap();
        }
        writer.flush(PATIENCE);
        let written: usize = output.try_iter().map(|bytes| bytes.len()).sum();
        assert_eq!(written / line.len() + lost, lines);
    }

    #[test]
    fn lines_that_an_output_refuses_are_counted_and_the_next_are_written() {
        let (writer, answer, output) = asking();
        let full = || Err(ErrorKind::StorageFull.into());
        for _ in 0..3 {
            answer.send(full()).unwrap();
            log(&writer, "lost\n");
            writer.flush(PATIENCE);
        }
        assert_eq!(writer.lost(), 3);
        answer.send(Ok(100)).unwrap();
        log(&writer, "kept\n");
        writer.flush(PATIENCE);
        assert_eq!(output.recv().unwrap(), b"kept\n");
        assert_eq!(writer.lost(), 3);
    }

    #[test]
    fn a_line_after_half_a_line_begins_on_a_line_of_its_own() {
        let (writer, answer, output) = asking();
        answer.send(Ok(3)).unwrap();
        answer.send(Err(ErrorKind::BrokenPipe.into())).unwrap();
        log(&writer, "first\n");
        writer.flush(PATIENCE);
        assert_eq!(writer.lost(), 1);
        for _ in 0..2 {
            answer.send(Ok(100)).unwrap();
        }
        log(&writer, "second\n");
        writer.flush(PATIENCE);
        let written: Vec<u8> = output.try_iter().flatten().collect();
        assert_eq!(written, b"fir\nsecond\n");
    }

    #[test]
    fn an_output_that_would_block_is_tried_again() {
        let (writer, answer, output) = asking();
        for kind in [ErrorKind::WouldBlock, ErrorKind::Interrupted] {
            answer.send(Err(kind.into())).unwrap();
        }
        answer.send(Ok(2)).unwrap();
        answer.send(Ok(100)).unwrap();
        log(&writer, "kept\n");
        writer.flush(PATIENCE);
        let written: Vec<u8> = output.try_iter().flatten().collect();
        assert_eq!(
            (written.as_slice(), writer.lost()),
            (b"kept\n".as_slice(), 0)
        );
    }
}
