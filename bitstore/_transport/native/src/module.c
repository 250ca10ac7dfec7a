/* The extension module `bitstore._transport.native._core`. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <openssl/crypto.h>
#include <openssl/ssl.h>

/* The number of what this module offers to the Python beside it, in `choice.py`: both change together. */
#define BITSTORE_API 1

static PyObject *version(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    if (!OPENSSL_init_ssl(0, NULL)) {
        PyErr_SetString(PyExc_ImportError, "OpenSSL does not start");
        return NULL;
    }
    return PyUnicode_FromString(OpenSSL_version(OPENSSL_VERSION));
}

static PyMethodDef functions[] = {
    {"version", version, METH_NOARGS, PyDoc_STR("The version text of the OpenSSL that is loaded.")},
    {NULL, NULL, 0, NULL},
};

static int fill(PyObject *module)
{
    return PyModule_AddIntConstant(module, "API", BITSTORE_API);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, fill},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "bitstore._transport.native._core",
    .m_doc = PyDoc_STR("The native transport."),
    .m_size = 0,
    .m_methods = functions,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__core(void)
{
    return PyModuleDef_Init(&definition);
}
