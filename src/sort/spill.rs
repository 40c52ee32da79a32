//! Spill files: records on disk while they do not fit in memory. A file has no name and mode 0600, is encrypted with a
//! random key that exists only in this process, and disappears with its last reader. Each block is AES-256-GCM with
//! the block number as nonce, and is written once. This is not a storage format: only the process that wrote a spill
//! file reads it.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroize;

use crate::base::env::{SharedEnv, random};
use crate::base::pipeline::lock;
use crate::base::temporary::without_temporary_name;
use crate::sort::spill_error::SpillError;

/// Where to spill records, and how much memory to use before that.
#[derive(Clone)]
pub struct SpillOptions {
    /// A directory on disk. Files in it have no name and disappear with the process.
    pub dir: PathBuf,
    /// Bytes of memory that one sorter, map or join may use.
    pub memory_bytes: usize,
    /// Source of the one-time keys.
    pub env: SharedEnv,
    /// Files that the sorters and maps of one run share.
    pub files: SpillFiles,
}

/// Up to this many files, each sorter and map gets its own, whose disk space is freed as soon as it was read.
const OWN_FILES_MAX: usize = 64;
/// A file that has this many bytes is not given to further sorters, so that its disk space is freed soon.
const SHARED_FILE_BYTES: u64 = 256 << 20;
/// From this many files on, files are shared whatever their size.
const SHARED_FILES_MAX: usize = 128;

/// The files of the sorters and maps of one run, oldest first. If there are many, they share files: with a file for
/// each, a source with thousands of tables would use up the descriptors of the process.
#[derive(Clone, Default)]
pub struct SpillFiles(Arc<Mutex<Vec<Weak<SpillFile>>>>);

impl SpillFiles {
    /// Number of files in use.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        lock(&self.0).iter().filter(|file| file.strong_count() > 0).count()
    }

    /// A new file or, if there are many, the newest one with blocks of the right size that accepts more.
    /// Fails if a new file cannot be created.
    pub(super) fn file(&self, options: &SpillOptions) -> Result<Arc<SpillFile>, SpillError> {
        let mut files = lock(&self.0);
        files.retain(|file| file.strong_count() > 0);
        if files.len() < OWN_FILES_MAX {
            return Self::add(&mut files, options);
        }
        let same_blocks = files.iter().rev().filter_map(Weak::upgrade).find(|file| file.suits(options));
        if let Some(file) =
            same_blocks.filter(|file| file.bytes() < SHARED_FILE_BYTES || files.len() >= SHARED_FILES_MAX)
        {
            return Ok(file);
        }
        Self::add(&mut files, options)
    }

    fn add(files: &mut Vec<Weak<SpillFile>>, options: &SpillOptions) -> Result<Arc<SpillFile>, SpillError> {
        let file = SpillFile::create(options)?;
        files.push(Arc::downgrade(&file));
        Ok(file)
    }
}

/// Most bytes of records in a full block.
const BLOCK_BYTES_MAX: usize = 64 << 10;
/// Fewest bytes of records in a full block, however small the budget.
const BLOCK_BYTES_MIN: usize = 1 << 10;
/// The number of the extent's next block, stored after the records.
const LINK_BYTES: usize = 8;
const TAG_BYTES: usize = 16;
/// Bytes of a block in addition to its records.
const BLOCK_OVERHEAD_BYTES: usize = LINK_BYTES + TAG_BYTES;
/// The link of the last block.
const NO_BLOCK: u64 = u64::MAX;
/// Two lengths of 4 bytes.
pub(super) const RECORD_HEADER_BYTES: usize = 8;

/// Block size at which many blocks fit into a memory budget.
pub(super) fn block_bytes(memory_bytes: usize) -> usize {
    (memory_bytes / 64).clamp(BLOCK_BYTES_MIN, BLOCK_BYTES_MAX)
}

/// One unlinked file of encrypted blocks, written by any number of [`ExtentWriter`]s.
pub(super) struct SpillFile {
    file: File,
    dir: PathBuf,
    key: LessSafeKey,
    block_bytes: usize,
    blocks_reserved: AtomicU64,
}

impl SpillFile {
    /// A new file without a name in `options.dir`.
    /// Fails if it cannot be created or its mode cannot be set (`SpillError::Create`).
    pub(super) fn create(options: &SpillOptions) -> Result<Arc<Self>, SpillError> {
        let dir = options.dir.clone();
        let file = create_unnamed(&dir).map_err(|source| SpillError::Create { dir: dir.clone(), source })?;
        Ok(Arc::new(Self {
            file,
            dir,
            key: random_key(options),
            block_bytes: block_bytes(options.memory_bytes),
            blocks_reserved: AtomicU64::new(0),
        }))
    }

    /// Whether its blocks have the size for this budget.
    fn suits(&self, options: &SpillOptions) -> bool {
        self.block_bytes == block_bytes(options.memory_bytes)
    }

    /// Bytes of the blocks so far, if all are full.
    fn bytes(&self) -> u64 {
        self.position(self.blocks_reserved.load(Ordering::Relaxed))
    }

    /// Reserves a unique block number, which is both position and nonce.
    fn reserve(&self) -> u64 {
        self.blocks_reserved.fetch_add(1, Ordering::Relaxed)
    }

    fn position(&self, block: u64) -> u64 {
        block * (self.block_bytes + BLOCK_OVERHEAD_BYTES) as u64
    }

    /// Encrypts `bytes` in place and writes them as `block`.
    fn write(&self, block: u64, bytes: &mut Vec<u8>) -> Result<(), SpillError> {
        self.key
            .seal_in_place_append_tag(nonce(block), Aad::empty(), bytes)
            .expect("a block is far below the limits of AES-GCM");
        self.file.write_all_at(bytes, self.position(block)).map_err(|source| self.write_error(source))
    }

    fn write_error(&self, source: io::Error) -> SpillError {
        let dir = self.dir.clone();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                SpillError::Full { dir }
            }
            _ => SpillError::Write { dir, source },
        }
    }

    /// Appends the `len` bytes of `block` to `bytes`. Returns the number of the next block.
    fn read(&self, block: u64, bytes: &mut Vec<u8>, len: usize) -> Result<u64, SpillError> {
        let start = bytes.len();
        let end = start + len;
        bytes.resize(end + BLOCK_OVERHEAD_BYTES, 0);
        self.read_sealed(block, &mut bytes[start..])?;
        let link = bytes[end..].first_chunk().map(|link| u64::from_le_bytes(*link));
        bytes.truncate(end);
        link.ok_or_else(|| self.damaged())
    }

    /// Reads `block` from disk and decrypts it in place.
    fn read_sealed(&self, block: u64, bytes: &mut [u8]) -> Result<(), SpillError> {
        self.file
            .read_exact_at(bytes, self.position(block))
            .map_err(|source| SpillError::Read { dir: self.dir.clone(), source })?;
        match self.key.open_in_place(nonce(block), Aad::empty(), bytes) {
            Ok(_) => Ok(()),
            Err(_) => Err(self.damaged()),
        }
    }

    fn damaged(&self) -> SpillError {
        SpillError::Damaged { dir: self.dir.clone() }
    }
}

/// Sets the mode, because `tempfile` leaves it to the umask.
fn create_unnamed(dir: &Path) -> io::Result<File> {
    let file = tempfile::tempfile_in(dir).map_err(without_temporary_name)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// A key that exists only in this process.
fn random_key(options: &SpillOptions) -> LessSafeKey {
    let mut secret: [u8; 32] = random(&*options.env);
    let key = UnboundKey::new(&AES_256_GCM, &secret).expect("32 bytes are an AES-256 key");
    secret.zeroize();
    LessSafeKey::new(key)
}

fn nonce(block: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&block.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// Spilled records, read in the order of writing.
#[derive(Clone)]
pub(super) struct Extent {
    file: Arc<SpillFile>,
    first_block: u64,
    bytes: u64,
}

impl Extent {
    /// Whether no record was written.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}

/// Writes one extent.
pub(super) struct ExtentWriter {
    file: Arc<SpillFile>,
    first_block: u64,
    block: u64,
    bytes: u64,
    buffer: Vec<u8>,
}

impl ExtentWriter {
    /// A writer of a new extent of `file`. Reserves one block.
    pub(super) fn new(file: Arc<SpillFile>) -> Self {
        let block = file.reserve();
        Self { file, first_block: block, block, bytes: 0, buffer: Vec::new() }
    }

    /// Appends a record.
    /// Fails if the key or payload has 4 GiB or more, or if a full block cannot be written.
    pub(super) fn write(&mut self, key: &[u8], payload: &[u8]) -> Result<(), SpillError> {
        self.append(&record_header(key, payload)?)?;
        self.append(key)?;
        self.append(payload)
    }

    /// Ends the extent.
    /// Fails if the last block cannot be written.
    pub(super) fn finish(mut self) -> Result<Extent, SpillError> {
        if !self.buffer.is_empty() {
            self.flush(NO_BLOCK)?;
        }
        Ok(Extent { file: self.file, first_block: self.first_block, bytes: self.bytes })
    }

    fn append(&mut self, mut bytes: &[u8]) -> Result<(), SpillError> {
        let block_bytes = self.file.block_bytes;
        if self.buffer.capacity() == 0 {
            self.buffer.reserve_exact(block_bytes + BLOCK_OVERHEAD_BYTES);
        }
        while !bytes.is_empty() {
            if self.buffer.len() == block_bytes {
                self.start_block()?;
            }
            let room = block_bytes - self.buffer.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// Writes the full block and starts the next one. Called only if more bytes follow, because each block takes its
    /// whole size in the file.
    fn start_block(&mut self) -> Result<(), SpillError> {
        let next = self.file.reserve();
        self.flush(next)?;
        self.block = next;
        Ok(())
    }

    /// Writes the block, with the number of the next one.
    fn flush(&mut self, next: u64) -> Result<(), SpillError> {
        self.bytes += self.buffer.len() as u64;
        self.buffer.extend_from_slice(&next.to_le_bytes());
        self.file.write(self.block, &mut self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

/// Key and payload.
pub type Record<'a> = (&'a [u8], &'a [u8]);

/// The header of a record: the lengths of key and payload.
/// Fails if one of them has 4 GiB or more.
pub(super) fn record_header(key: &[u8], payload: &[u8]) -> Result<[u8; RECORD_HEADER_BYTES], SpillError> {
    let too_long = |_| SpillError::TooLong { bytes: key.len().saturating_add(payload.len()) };
    let key_bytes = u32::try_from(key.len()).map_err(too_long)?;
    let payload_bytes = u32::try_from(payload.len()).map_err(too_long)?;
    let both = u64::from(payload_bytes) << 32 | u64::from(key_bytes);
    Ok(both.to_le_bytes())
}

/// The lengths of key and payload in a header.
pub(super) fn record_lengths(header: [u8; RECORD_HEADER_BYTES]) -> (usize, usize) {
    let both = u64::from_le_bytes(header);
    ((both & u64::from(u32::MAX)) as usize, (both >> 32) as usize)
}

/// Most bytes that an [`ExtentReader`] of such blocks and records uses.
pub(super) fn reader_bytes(block_bytes: usize, record_bytes_max: usize) -> usize {
    block_bytes + BLOCK_OVERHEAD_BYTES + RECORD_HEADER_BYTES + record_bytes_max
}

/// Reads an extent record by record. Keeps one block and the record that extends beyond it in memory.
pub(super) struct ExtentReader {
    extent: Extent,
    block: u64,
    buffer: Vec<u8>,
    /// Start of the current record in `buffer`. `end` is the start of the next one.
    start: usize,
    end: usize,
    key_bytes: usize,
}

impl ExtentReader {
    /// A reader before the first record.
    pub(super) fn new(extent: Extent) -> Self {
        let block = extent.first_block;
        Self { extent, block, buffer: Vec::new(), start: 0, end: 0, key_bytes: 0 }
    }

    /// Moves to the next record. The first call moves to the first record. Returns false at the end.
    /// Fails if a block cannot be read, or if its tag does not verify (`SpillError::Damaged`).
    pub(super) fn advance(&mut self) -> Result<bool, SpillError> {
        self.start = self.end;
        self.fill(RECORD_HEADER_BYTES)?;
        if self.start == self.buffer.len() {
            return Ok(false);
        }
        let Some(header) = self.buffer[self.start..].first_chunk() else { return Err(self.extent.file.damaged()) };
        let (key_bytes, payload_bytes) = record_lengths(*header);
        self.key_bytes = key_bytes;
        self.load_record(RECORD_HEADER_BYTES + key_bytes + payload_bytes)?;
        Ok(true)
    }

    /// Reads the whole current record and sets its end.
    fn load_record(&mut self, record_bytes: usize) -> Result<(), SpillError> {
        self.fill(record_bytes)?;
        self.end = self.start + record_bytes;
        if self.end > self.buffer.len() {
            return Err(self.extent.file.damaged());
        }
        Ok(())
    }

    /// Key and payload of the current record.
    pub(super) fn record(&self) -> Record<'_> {
        self.buffer[self.start + RECORD_HEADER_BYTES..self.end].split_at(self.key_bytes)
    }

    /// Reads until the buffer has `want` bytes from `start` on, or the extent ends.
    fn fill(&mut self, want: usize) -> Result<(), SpillError> {
        if self.buffer.len() - self.start >= want || self.extent.bytes == 0 {
            return Ok(());
        }
        self.buffer.copy_within(self.start.., 0);
        self.buffer.truncate(self.buffer.len() - self.start);
        self.start = 0;
        self.reserve_blocks(want - self.buffer.len());
        while self.buffer.len() < want && self.extent.bytes > 0 {
            self.read_block()?;
        }
        Ok(())
    }

    /// Allocates exactly the bytes of the blocks that contain the next `missing` bytes.
    fn reserve_blocks(&mut self, missing: usize) {
        let block_bytes = self.extent.file.block_bytes;
        let blocks = missing.div_ceil(block_bytes);
        let bytes = blocks.saturating_mul(block_bytes).min(self.extent.bytes as usize);
        self.buffer.reserve_exact(bytes + BLOCK_OVERHEAD_BYTES);
    }

    fn read_block(&mut self) -> Result<(), SpillError> {
        let file = &self.extent.file;
        let len = self.extent.bytes.min(file.block_bytes as u64);
        self.block = file.read(self.block, &mut self.buffer, len as usize)?;
        self.extent.bytes -= len;
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};
    use std::sync::Arc;

    use super::{Extent, ExtentReader, ExtentWriter, SpillError, SpillFile, SpillFiles, SpillOptions, reader_bytes};
    use crate::base::env::Seeded;
    use crate::sort::spill_error::check_space;

    /// A budget in the system's directory for temporary files.
    pub(in crate::sort) fn options(memory_bytes: usize) -> SpillOptions {
        let env = Arc::new(Seeded::new(1));
        SpillOptions { dir: std::env::temp_dir(), memory_bytes, env, files: SpillFiles::default() }
    }

    type Owned = (Vec<u8>, Vec<u8>);

    fn read_all(extent: Extent) -> Result<Vec<Owned>, SpillError> {
        let mut reader = ExtentReader::new(extent);
        let mut records = Vec::new();
        let mut record_bytes_max = 0;
        while reader.advance()? {
            let (key, payload) = reader.record();
            record_bytes_max = record_bytes_max.max(key.len() + payload.len());
            assert!(reader.buffer.capacity() <= reader_bytes(reader.extent.file.block_bytes, record_bytes_max));
            records.push((key.to_vec(), payload.to_vec()));
        }
        Ok(records)
    }

    #[test]
    fn interleaved_extents_are_read_in_order() {
        let file = SpillFile::create(&options(0)).expect("a file");
        let mut writers = [ExtentWriter::new(file.clone()), ExtentWriter::new(file.clone()), ExtentWriter::new(file)];
        let mut expected = [Vec::new(), Vec::new(), Vec::new()];
        for n in 0..3000usize {
            let record = (n.to_le_bytes().to_vec(), vec![n as u8; n * n % 5000]);
            writers[n % 7 % 2].write(&record.0, &record.1).expect("written");
            expected[n % 7 % 2].push(record);
        }
        for (writer, expected) in writers.into_iter().zip(expected) {
            assert!(read_all(writer.finish().expect("finished")).expect("read") == expected);
        }
    }

    #[test]
    fn an_extent_takes_only_the_blocks_that_it_fills() {
        let file = SpillFile::create(&options(0)).expect("a file");
        let block_bytes = file.block_bytes;
        // Two blocks are full to the last byte.
        let sizes = [1, block_bytes, block_bytes + 1, 2 * block_bytes - 8];
        let extents = sizes.map(|bytes| {
            let mut writer = ExtentWriter::new(file.clone());
            writer.write(b"", &vec![7; bytes]).expect("written");
            writer.finish().expect("finished")
        });
        assert_eq!(file.blocks_reserved.load(std::sync::atomic::Ordering::Relaxed), 1 + 2 + 2 + 2);
        for (extent, bytes) in extents.into_iter().zip(sizes) {
            assert!(read_all(extent).expect("read") == [(Vec::new(), vec![7; bytes])]);
        }
    }

    #[test]
    fn spill_files_are_encrypted_private_and_authenticated() {
        let file = SpillFile::create(&options(0)).expect("a file");
        let mut writer = ExtentWriter::new(file.clone());
        for _ in 0..1000 {
            writer.write(b"a secret key", b"a secret row").expect("written");
        }
        let extent = writer.finish().expect("finished");
        let metadata = file.file.metadata().expect("metadata");
        assert_eq!((metadata.mode() & 0o777, metadata.nlink()), (0o600, 0));
        let mut bytes = vec![0; metadata.len() as usize];
        file.file.read_exact_at(&mut bytes, 0).expect("read");
        assert!(!bytes.windows(6).any(|window| window == b"secret"));

        let position = bytes.len() as u64 / 2;
        file.file.write_all_at(&[!bytes[bytes.len() / 2]], position).expect("damaged");
        assert!(matches!(read_all(extent), Err(SpillError::Damaged { .. })));
    }

    #[test]
    fn too_little_disk_space_is_reported_before_spilling() {
        let dir = std::env::temp_dir();
        assert!(check_space(&dir, 1).is_ok());
        let error = check_space(&dir, u64::MAX).expect_err("no disk is that large");
        assert!(error.to_string().contains(&*dir.to_string_lossy()), "{error}");
    }

    #[test]
    fn a_full_disk_has_its_own_error() {
        if !std::path::Path::new("/dev/full").exists() {
            return;
        }
        let file = std::fs::File::options().write(true).open("/dev/full").expect("open");
        let mut full = SpillFile::create(&options(0)).expect("a file");
        Arc::get_mut(&mut full).expect("one owner").file = file;
        let mut writer = ExtentWriter::new(full);
        writer.write(b"key", b"row").expect("buffered");
        assert!(matches!(writer.finish(), Err(SpillError::Full { .. })));
    }

    #[test]
    fn a_missing_directory_is_named_in_the_error() {
        let mut options = options(0);
        options.dir = "/does/not/exist".into();
        let error = SpillFile::create(&options).err().expect("refused");
        assert_eq!(error.to_string(), "cannot create a temporary file in /does/not/exist");
    }
}
