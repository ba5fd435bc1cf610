"""A deformation in files: its own, and those of other programs."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .. import _affine, _check
from .._errors import reject_value
from .._files import itk, nifti
from .._files.world import FrameMap
from .._routes import values_of
from .._types import Array
from .evaluation import Evaluation
from .parts import values_in_double

if TYPE_CHECKING:
    from typing_extensions import Self

_FORMAT = "elasticnd deformation"
_VERSION = 1


class Files(Evaluation):
    """The methods that save and load deformations, and exchange them with other programs."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the deformation to an npz file; `load` restores the same bits on any machine.

        Parameters
        ----------
        path : path-like
            File to write; an existing file is overwritten.

        Raises
        ------
        TypeError
            If the deformation has no values because a program is being traced.
        OSError
            If the file cannot be written.

        Examples
        --------
        >>> import os, tempfile
        >>> import elasticnd
        >>> deformation = elasticnd.Deformation.random((64, 48), rng=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "deformation.npz")
        ...     deformation.save(path)
        ...     elasticnd.Deformation.load(path) == deformation
        True
        """
        arrays: dict[str, Array] = {"displacement": values_of("displacement", self._displacement)}
        if self._affine is not None:
            arrays["affine"] = values_of("affine", self._affine)
        for name, value in (("rotate", self._rotate), ("zoom", self._zoom), ("to_world", self._world)):
            if value is not None:
                arrays[name] = np.array(value)
        with open(path, "wb") as file:
            np.savez(file, format=_FORMAT, version=_VERSION, shape=np.array(self.shape, np.int64), **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Load a deformation that `save` wrote, as NumPy arrays.

        Parameters
        ----------
        path : path-like
            File to read. Nothing in it is executed.

        Returns
        -------
        Deformation
            Equal to the one that was saved.

        Raises
        ------
        ValueError
            If the file is not a deformation, is damaged, or has a newer format.
        OSError
            If the file cannot be read.

        Examples
        --------
        >>> import os, tempfile
        >>> import elasticnd
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "deformation.npz")
        ...     elasticnd.Deformation.identity((64, 48)).save(path)
        ...     elasticnd.Deformation.load(path)
        Deformation(shape=(64, 48), grid_shape=(1, 1))
        """
        accepted = "an npz file that Deformation.save wrote"
        with open(path, "rb") as file:
            try:
                archive = np.load(file, allow_pickle=False)
                held = {name: archive[name] for name in archive.files}
            except (AttributeError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
                raise ValueError(f"path: got {os.fspath(path)!r}, expected {accepted}") from error
        if str(held.pop("format", "")) != _FORMAT or not {"version", "shape", "displacement"} <= held.keys():
            reject_value("path", repr(os.fspath(path)), accepted)
        version = held.pop("version").tolist()
        if version != _VERSION:
            reject_value("path", f"version {version} of the format", f"version {_VERSION}; update elasticnd")
        return cls(held.pop("displacement"), held.pop("shape").tolist(), **held)

    def to_itk(self) -> Array:
        """Convert the deformation to an ITK transform, for SimpleITK, ANTs, Slicer and other programs.

        The transform maps world points of the output to those of the input, and is exact inside the frame. ITK's
        B-spline ends one cell of the control grid outside the frame; beyond that, only the affine map remains.

        Returns
        -------
        SimpleITK.CompositeTransform
            An affine transform and a B-spline transform of order 3, which is applied first, in LPS coordinates. Use it
            with `SimpleITK.Resample` and `SimpleITK.WriteTransform` (``.tfm``, ``.h5``).

        Raises
        ------
        TypeError, ValueError
            If the deformation has no `to_world` matrix or one with shear, has batch axes, does not have two or three
            axes, or has no values because a program is being traced.
        ImportError
            If SimpleITK is not installed: ``pip install 'elasticnd[medical]'``.

        See Also
        --------
        from_itk : converts in the opposite direction.

        Notes
        -----
        `to_world` is for the axes in the order of the array. SimpleITK lists the axes in reverse order.

        Examples
        --------
        >>> import numpy as np
        >>> import elasticnd
        >>> to_world = np.diag([2.0, 2.0, 3.0, 1.0])
        >>> deformation = elasticnd.Deformation.random(
        ...     (64, 48, 32), sigma=3, rng=0, to_world=to_world
        ... )
        >>> transform = deformation.to_itk()
        >>> np.allclose(
        ...     transform.TransformPoint((-40, -50, 60)),
        ...     deformation.source_points((20, 25, 20)) * (-2, -2, 3),
        ... )
        True
        """
        return itk.to_itk(self._frame_map())

    @classmethod
    def from_itk(
        cls, transform: Array, shape: Sequence[int], to_world: Array, fit: bool | int | Sequence[int] = False
    ) -> Self:
        """Convert an ITK transform to a deformation of a frame.

        Parameters
        ----------
        transform : SimpleITK.Transform
            An affine or other linear transform, a B-spline transform of order 3, or a composite of a B-spline and
            linear transforms after it, such as `to_itk` returns. The cells of the B-spline must begin and end on the
            first and last voxels of the frame, apart from extra cells around it, and its border coefficients must be
            mirrored.
        shape : sequence of int
            Extent of the frame, in voxels.
        to_world : array_like, shape (n + 1, n + 1)
            The frame's index-to-world matrix, in mm, as nibabel's ``affine``.
        fit : bool, int or sequence of int, optional
            Whether to accept any transform, and fit a control grid to the positions to which it maps the voxels. An int
            or a sequence is the number of control points; True means as many as the B-spline has in the frame. Default
            False: accept only what a control grid can represent exactly.

        Returns
        -------
        Deformation
            A deformation with as many control points as the B-spline has knots in the frame, or as `fit` says. Inside
            the frame, it equals the transform or, with `fit`, approximates it.

        Raises
        ------
        TypeError, ValueError
            If the transform is of another kind. If its border coefficients are not mirrored, the message says by how
            much they differ.
        ImportError
            If SimpleITK is not installed: ``pip install 'elasticnd[medical]'``.

        Examples
        --------
        >>> import numpy as np
        >>> import elasticnd
        >>> deformation = elasticnd.Deformation.random(
        ...     (64, 48), sigma=3, rng=0, to_world=np.diag([0.5, 0.5, 1])
        ... )
        >>> again = elasticnd.Deformation.from_itk(
        ...     deformation.to_itk(), deformation.shape, deformation.to_world
        ... )
        >>> np.allclose(again.displacement, deformation.displacement, rtol=0, atol=1e-12)
        True
        """
        extent = _check.normalize_frame(shape)
        found = itk.from_itk(transform, extent, _affine.world_matrix(to_world, len(extent)), fit)
        return cls(found.displacement, extent, affine=found.affine, to_world=to_world)

    def to_nifti(self, path: str | os.PathLike[str], kind: str = "nifti") -> None:
        """Write the mapping of the frame's voxels, affine map included, to a NIfTI displacement field.

        Parameters
        ----------
        path : path-like
            File to write, ``.nii`` or ``.nii.gz``; an existing file is overwritten.
        kind : {"nifti", "itk", "spm"}, optional
            Meaning of the vectors, in mm: displacements in RAS coordinates, displacements in LPS coordinates as in ITK
            and ANTs, or positions in RAS coordinates as in SPM. Default "nifti": displacements in RAS.

        Raises
        ------
        TypeError, ValueError
            If an argument is invalid. Also if the deformation has no `to_world` matrix or, for ITK, one with shear; has
            batch axes; does not have three axes; or has no values because a program is being traced.
        ImportError
            If nibabel is not installed: ``pip install 'elasticnd[medical]'``.
        OSError
            If the file cannot be written.

        See Also
        --------
        to_itk : converts to an exact transform, stored in a few numbers.

        Notes
        -----
        The file holds double-precision vectors of shape (x, y, z, 1, 3) with intent 1007 (vector). Other programs
        interpolate them linearly between voxels.

        Examples
        --------
        >>> import os, tempfile
        >>> import nibabel
        >>> import numpy as np
        >>> import elasticnd
        >>> deformation = elasticnd.Deformation.random(
        ...     (12, 10, 8), sigma=1, rng=0, to_world=np.diag([2, 2, 3, 1])
        ... )
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "field.nii.gz")
        ...     deformation.to_nifti(path, kind="itk")
        ...     nibabel.load(path).shape
        (12, 10, 8, 1, 3)
        """
        frame_map = self._frame_map()
        nifti.write_field(path, kind, frame_map, values_in_double("displacement", self.field()))

    def _frame_map(self) -> FrameMap:
        """Return what files of other programs hold: the map of a single deformation, in the world."""
        self._check_single()
        if self._world is None:
            reject_value("to_world", None, "a deformation whose frame has an index-to-world matrix")
        affine = self.affine
        matrix = np.eye(self.ndim, self.ndim + 1) if affine is None else values_in_double("affine", affine)
        linear = np.linalg.inv(matrix[:, :-1])
        inverse_map = np.concatenate([linear, -linear @ matrix[:, -1:]], axis=1)
        displacement = values_in_double("displacement", self._displacement)
        return FrameMap(displacement, inverse_map, self.shape, np.array(self._world))
