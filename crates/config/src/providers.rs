//! The provider table.

/// `api-version` that is sent to Azure when the file names none.
pub const AZURE_API_VERSION: &str = "2024-10-21";
