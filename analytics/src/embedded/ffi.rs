//! The C interface of `libchdb`, as safe functions.
//!
//! The only file of this crate with unsafe code. Knows nothing of HTTP, users or limits.

use std::ffi::{CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::ptr;

use super::refusal::Refusal;

type Connection = *mut c_void;
type Answer = *mut c_void;

type Connect = unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut Connection;
type Close = unsafe extern "C" fn(*mut Connection);
type Query = unsafe extern "C" fn(
    Connection,
    *const c_char,
    usize,
    *const c_char,
    usize,
    *const *const c_char,
    *const usize,
    *const *const c_char,
    *const usize,
    usize,
) -> Answer;
type Destroy = unsafe extern "C" fn(Answer);
type Text = unsafe extern "C" fn(Answer) -> *const c_char;
type Length = unsafe extern "C" fn(Answer) -> usize;
type Count = unsafe extern "C" fn(Answer) -> u64;
type Seconds = unsafe extern "C" fn(Answer) -> f64;
type SignalHandlers = unsafe extern "C" fn(bool);

/// Why the engine could not be used at all.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the ClickHouse engine {path} cannot be loaded")]
    Load {
        path: PathBuf,
        #[source]
        source: libloading::Error,
    },
    #[error("the ClickHouse engine refused to open {path}: is another process using it?")]
    Open { path: PathBuf },
    #[error("the path {0} holds a zero byte")]
    Path(PathBuf),
}

/// The loaded engine. Never unloaded: its own threads live until the process ends.
pub struct Library {
    connect: Connect,
    close: Close,
    query: Query,
    destroy: Destroy,
    buffer: Text,
    length: Length,
    error: Text,
    elapsed: Seconds,
    rows_read: Count,
    bytes_read: Count,
    rows_written: Count,
    bytes_written: Count,
}

/// What a statement gave back.
#[derive(Debug, Default)]
pub struct Outcome {
    /// In the format that was asked for.
    pub body: Vec<u8>,
    pub elapsed_s: f64,
    pub rows_read: u64,
    pub bytes_read: u64,
    pub rows_written: u64,
    pub bytes_written: u64,
}

impl Library {
    /// Loads the engine and keeps it from taking over the process's signals.
    ///
    /// # Errors
    /// The file is missing, not a library, or of another version.
    #[expect(unsafe_code, reason = "loading a C library")]
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let failed = |source| LoadError::Load {
            path: path.to_owned(),
            source,
        };
        // SAFETY: the file is the pinned libchdb, whose initialisers need nothing of us; the types
        // are those of its header for the same version, and leaking it keeps the pointers valid.
        unsafe {
            let library = libloading::Library::new(path).map_err(failed)?;
            let library: &'static libloading::Library = Box::leak(Box::new(library));
            let handlers: SignalHandlers = *library
                .get(b"chdb_set_signal_handlers_enabled\0")
                .map_err(failed)?;
            handlers(false);
            Ok(Self {
                connect: *library.get(b"chdb_connect\0").map_err(failed)?,
                close: *library.get(b"chdb_close_conn\0").map_err(failed)?,
                query: *library.get(b"chdb_query_with_params_n\0").map_err(failed)?,
                destroy: *library
                    .get(b"chdb_destroy_query_result\0")
                    .map_err(failed)?,
                buffer: *library.get(b"chdb_result_buffer\0").map_err(failed)?,
                length: *library.get(b"chdb_result_length\0").map_err(failed)?,
                error: *library.get(b"chdb_result_error\0").map_err(failed)?,
                elapsed: *library.get(b"chdb_result_elapsed\0").map_err(failed)?,
                rows_read: *library.get(b"chdb_result_rows_read\0").map_err(failed)?,
                bytes_read: *library.get(b"chdb_result_bytes_read\0").map_err(failed)?,
                rows_written: *library.get(b"chdb_result_rows_written\0").map_err(failed)?,
                bytes_written: *library
                    .get(b"chdb_result_bytes_written\0")
                    .map_err(failed)?,
            })
        }
    }
}

/// One session of the engine, with settings of its own. Stays on the thread that opened it.
pub struct Session {
    library: &'static Library,
    handle: *mut Connection,
}

impl Session {
    /// Opens a session on a data directory; the first one of a process starts the engine.
    ///
    /// # Errors
    /// Another process holds the directory, or it cannot be read.
    #[expect(unsafe_code, reason = "calling the C interface")]
    pub fn open(library: &'static Library, path: &Path) -> Result<Self, LoadError> {
        let mut argument = b"--path=".to_vec();
        argument.extend_from_slice(path.as_os_str().as_bytes());
        let argument = CString::new(argument).map_err(|_| LoadError::Path(path.to_owned()))?;
        let mut arguments = [
            c"clickhouse".as_ptr().cast_mut(),
            argument.as_ptr().cast_mut(),
        ];
        // SAFETY: two live, zero-terminated strings, which the engine copies and does not write to.
        let handle = unsafe { (library.connect)(2, arguments.as_mut_ptr()) };
        // SAFETY: null is looked at before the pointer is followed.
        if handle.is_null() || unsafe { *handle }.is_null() {
            return Err(LoadError::Open {
                path: path.to_owned(),
            });
        }
        Ok(Self { library, handle })
    }

    /// Runs a statement. `params` are values of `{name:Type}` in escaped text form, as HTTP has them.
    ///
    /// # Errors
    /// What the engine says, with its code.
    #[expect(unsafe_code, reason = "calling the C interface")]
    pub fn query(
        &self,
        sql: &[u8],
        format: &str,
        params: &[(String, String)],
    ) -> Result<Outcome, Refusal> {
        let names: Vec<*const c_char> = params.iter().map(|p| p.0.as_ptr().cast()).collect();
        let name_lengths: Vec<usize> = params.iter().map(|p| p.0.len()).collect();
        let values: Vec<*const c_char> = params.iter().map(|p| p.1.as_ptr().cast()).collect();
        let value_lengths: Vec<usize> = params.iter().map(|p| p.1.len()).collect();
        let or_null = |vector: &Vec<*const c_char>| match vector.is_empty() {
            true => ptr::null(),
            false => vector.as_ptr(),
        };
        // SAFETY: the handle is open, since only `drop` closes it; every pointer comes with its
        // length and outlives the call. A result is read before it is destroyed, once.
        unsafe {
            let answer = (self.library.query)(
                *self.handle,
                sql.as_ptr().cast(),
                sql.len(),
                format.as_ptr().cast(),
                format.len(),
                or_null(&names),
                name_lengths.as_ptr(),
                or_null(&values),
                value_lengths.as_ptr(),
                params.len(),
            );
            if answer.is_null() {
                return Err(Refusal::logical("the engine gave no answer"));
            }
            let error = (self.library.error)(answer);
            let result = if error.is_null() {
                Ok(Outcome {
                    body: bytes((self.library.buffer)(answer), (self.library.length)(answer)),
                    elapsed_s: (self.library.elapsed)(answer),
                    rows_read: (self.library.rows_read)(answer),
                    bytes_read: (self.library.bytes_read)(answer),
                    rows_written: (self.library.rows_written)(answer),
                    bytes_written: (self.library.bytes_written)(answer),
                })
            } else {
                let text = std::ffi::CStr::from_ptr(error).to_string_lossy();
                Err(Refusal::parse(&text))
            };
            (self.library.destroy)(answer);
            result
        }
    }
}

/// A copy of the engine's buffer.
///
/// # Safety
/// `start` is null or points to `length` readable bytes.
#[expect(unsafe_code, reason = "reading a C buffer")]
unsafe fn bytes(start: *const c_char, length: usize) -> Vec<u8> {
    if start.is_null() || length == 0 {
        return Vec::new();
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(start.cast::<u8>(), length) }.to_vec()
}

impl Drop for Session {
    #[expect(unsafe_code, reason = "calling the C interface")]
    fn drop(&mut self) {
        // SAFETY: open until here, and nobody else has the handle.
        unsafe { (self.library.close)(self.handle) }
    }
}
