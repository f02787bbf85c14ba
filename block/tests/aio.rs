//! `aio=io_uring` and `aio=native`: many requests at once, ends of files, parts of sectors, and what is refused.

use std::any::Any;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use block::backend::{self, BlockBackend, Op, Request, RequestMemory};
use block::node;
use block::options::BlockdevOptions;
use qapi::{At, QapiType};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use vm_memory::{Bytes, MmapRegion, VolatileMemory, VolatileSlice};

const PAGE: usize = 4096;

/// Memory of a request, from `start` of a page on.
struct Memory {
    region: MmapRegion,
    start: usize,
    bytes: usize,
}

impl Memory {
    fn new(start: usize, bytes: usize, fill: u8) -> Memory {
        let size = (start + bytes).next_multiple_of(PAGE).max(PAGE);
        let memory = Memory { region: MmapRegion::new(size).expect("memory"), start, bytes };
        memory.slice().write_slice(&vec![fill; bytes], 0).expect("it is as long");
        memory
    }

    fn slice(&self) -> VolatileSlice<'_> {
        self.region.get_slice(self.start, self.bytes).expect("it is inside")
    }

    fn contents(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.bytes];
        self.slice().read_slice(&mut bytes, 0).expect("it is as long");
        bytes
    }
}

impl RequestMemory for Memory {
    fn parts(&self) -> Vec<VolatileSlice<'_>> {
        let slice = self.slice();
        // In two parts, as guests have them.
        let half = (self.bytes / 2).next_multiple_of(PAGE).min(self.bytes);
        let part = |at: usize, len: usize| slice.subslice(at, len).expect("it is inside");
        if half == self.bytes {
            vec![part(0, half)]
        } else {
            vec![part(0, half), part(half, self.bytes - half)]
        }
    }
}

fn open(options: Value) -> qom::Result<Arc<BlockBackend>> {
    let options = BlockdevOptions::from_json(options, At::Top)?;
    Ok(backend::new_nameless(node::open(&options, node::Inherited::default())?))
}

/// A file of so many bytes, each page of which is filled with its number.
fn file(bytes: usize) -> NamedTempFile {
    let contents: Vec<u8> = (0..bytes).map(|at| (at / PAGE) as u8).collect();
    // Not where files are in memory only, which nobody has to wait for.
    let file = tempfile::Builder::new().tempfile_in(env!("CARGO_TARGET_TMPDIR")).expect("a file");
    std::fs::write(file.path(), contents).expect("the file");
    file
}

fn on_file(file: &NamedTempFile, aio: &str, direct: bool) -> Value {
    json!({ "driver": "file", "filename": file.path(), "aio": aio, "cache": { "direct": direct } })
}

type Ended = (Request, io::Result<()>);

fn submit(backend: &Arc<BlockBackend>, op: Op, offset: u64, memory: Memory, to: &mpsc::Sender<Ended>) {
    let to = to.clone();
    let request = Request { op, offset, bytes: memory.bytes as u64, memory: Box::new(memory) };
    backend.submit(request, Box::new(move |request, result| drop(to.send((request, result)))));
}

/// What a request has in its memory now that it has ended well.
fn contents((request, result): Ended) -> Vec<u8> {
    result.expect("the request");
    let memory: Box<dyn Any> = request.memory;
    memory.downcast::<Memory>().expect("its memory").contents()
}

fn one(backend: &Arc<BlockBackend>, op: Op, offset: u64, memory: Memory) -> Ended {
    let (to, from) = mpsc::channel();
    submit(backend, op, offset, memory, &to);
    from.recv().expect("an end")
}

/// Whether this process has a thread of that name.
fn has_thread(name: &str) -> bool {
    let tasks = std::fs::read_dir("/proc/self/task").expect("the threads").flatten();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.into_iter().any(|comm| comm.trim_end() == name)
}

#[test]
fn many_requests_at_once_find_their_places() {
    // More than a queue takes.
    const PAGES: usize = 300;
    for (aio, direct) in [("io_uring", true), ("io_uring", false), ("native", true), ("threads", true)] {
        let file = file(PAGES * PAGE);
        let raw = json!({ "driver": "raw", "offset": PAGE, "file": on_file(&file, aio, direct) });
        let backend = open(raw).expect(aio);
        let (to, from) = mpsc::channel();
        for page in 0..PAGES - 2 {
            let (op, fill) = if page % 2 == 0 { (Op::Read, 0) } else { (Op::Write, 0xaa) };
            submit(&backend, op, (page * PAGE) as u64, Memory::new(0, PAGE, fill), &to);
        }
        for ended in from.iter().take(PAGES - 2) {
            let (op, page) = (ended.0.op, ended.0.offset as usize / PAGE);
            if op == Op::Read {
                assert_eq!(contents(ended), vec![(page + 1) as u8; PAGE], "{aio}: page {page}");
            } else {
                ended.1.expect("a write");
            }
        }
        assert!(has_thread("aio") || aio == "threads", "{aio}");
        backend.drain();
        backend.remove();
        drop(backend);
        while has_thread("aio") {
            std::thread::yield_now();
        }
        let mut page = vec![0; PAGE];
        for n in 0..PAGES {
            file.as_file().read_exact_at(&mut page, (n * PAGE) as u64).expect("the file");
            let written = n > 0 && n % 2 == 0 && n < PAGES - 1;
            assert_eq!(page, vec![if written { 0xaa } else { n as u8 }; PAGE], "{aio}: page {n}");
        }
    }
}

#[test]
fn several_parts_and_parts_of_sectors_and_memory_off_its_page() {
    for (aio, direct) in [("io_uring", true), ("io_uring", false), ("native", true)] {
        let file = file(16 * PAGE);
        let backend = open(on_file(&file, aio, direct)).expect(aio);
        let two = contents(one(&backend, Op::Read, PAGE as u64, Memory::new(0, 2 * PAGE, 0xff)));
        assert_eq!((two[0], two[PAGE - 1], two[PAGE], two[2 * PAGE - 1]), (1, 1, 2, 2), "{aio}");
        one(&backend, Op::Write, 100, Memory::new(7, 50, 0xbb)).1.expect("a write");
        let read = contents(one(&backend, Op::Read, 99, Memory::new(3, 52, 0xff)));
        assert_eq!((read[0], &read[1..51], read[51]), (0, &[0xbb; 50][..], 0), "{aio}");
        assert!(one(&backend, Op::Read, 15 * PAGE as u64, Memory::new(0, 2 * PAGE, 0)).1.is_err());
        one(&backend, Op::Flush, 0, Memory::new(0, 0, 0)).1.expect("a flush");
    }
}

#[test]
fn what_a_file_ends_with_reads_as_zeroes_when_it_has_shrunk() {
    for (aio, direct) in [("io_uring", true), ("io_uring", false), ("native", true)] {
        let file = file(4 * PAGE);
        let backend = open(on_file(&file, aio, direct)).expect(aio);
        file.as_file().set_len(PAGE as u64 + 512).expect("a shorter file");
        let read = contents(one(&backend, Op::Read, PAGE as u64, Memory::new(0, 2 * PAGE, 0xff)));
        assert_eq!((&read[..512], &read[512..]), (&[1; 512][..], &vec![0; 2 * PAGE - 512][..]), "{aio}");
    }
}

#[test]
fn native_needs_a_file_that_is_opened_around_the_cache() {
    let file = file(PAGE);
    let error = open(on_file(&file, "native", false)).map(drop).expect_err("it is cached");
    assert_eq!(
        error.message,
        "aio=native was specified, but it requires cache.direct=on, which was not specified."
    );
}

/// Those that the queue does not take wait for nobody who waits for them.
#[test]
fn parts_of_sectors_come_between_more_requests_than_a_queue_takes() {
    const REQUESTS: usize = 600;
    // Large ones, which come faster than they end.
    const BYTES: usize = 64 * PAGE;
    for aio in ["io_uring", "native"] {
        let file = file(BYTES + PAGE);
        let backend = open(on_file(&file, aio, true)).expect(aio);
        let (to, from) = mpsc::channel();
        let is_part = |n: usize| n > REQUESTS / 2 && n.is_multiple_of(2);
        let place = |n| if is_part(n) { (BYTES + 100, 50) } else { (0, BYTES) };
        let memories: Vec<_> = (0..REQUESTS).map(|n| Memory::new(0, place(n).1, 0xaa)).collect();
        for (n, memory) in memories.into_iter().enumerate() {
            submit(&backend, Op::Write, place(n).0 as u64, memory, &to);
        }
        for _ in 0..REQUESTS {
            let (_, result) = from.recv_timeout(Duration::from_secs(60)).expect("none is waited for in vain");
            result.expect("a write");
        }
        let contents = std::fs::read(file.path()).expect("the file");
        let (whole, part) = (&contents[..BYTES], &contents[BYTES + 100..BYTES + 150]);
        assert!(whole.iter().chain(part).all(|byte| *byte == 0xaa), "{aio}");
    }
}
